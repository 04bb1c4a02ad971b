// Can a tenant tell by the clock whether another one has ingested a document? Prints the AUC of the
// best guess: 0.5 is a coin.
//
//   tenant_timing [trials of each kind]
//
// In every trial a victim ingests a document, then an attacker uploads and ingests one, of which it
// measures the time from the call to the end of the operation: the victim's, byte for byte, or
// another of the same length. Both kinds do the same work in the same order, shuffled by a seed.
// The same is then done within one tenant, where the cache must show: a measurement that finds
// nothing there would mean nothing. Real gRPC, a real process, a small model.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "lectern/v1/corpora.grpc.pb.h"
#include "lectern/v1/operations.grpc.pb.h"
#include "lectern/v1/tenants.grpc.pb.h"
#include "tests/e2e/deployment.h"
#include "tests/e2e/process.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::testing {
namespace {

constexpr int kDocumentWords = 900;
constexpr double kLimit = 0.55;
// Within a tenant a hit shows at once on a quiet machine (over 0.99), and still on a busy one.
constexpr double kControl = 0.8;
constexpr uint64_t kSeed = 1;

void Must(bool done, const std::string& what) {
  if (done) return;
  std::fprintf(stderr, "%s failed\n", what.c_str());
  std::exit(1);
}

std::string MakeKey(const std::string& file, const std::vector<std::string>& flags) {
  std::vector<std::string> command = {Program("lectern"), "keys", "create", "--keys_file=" + file};
  command.insert(command.end(), flags.begin(), flags.end());
  const Finished made = RunCommand(command);
  Must(made.code == 0, made.errors);
  return made.output.substr(0, made.output.find('\n'));
}

// One tenant's calls.
class Caller {
 public:
  Caller(const std::shared_ptr<grpc::Channel>& channel, std::string tenant, std::string key)
      : corpora_(v1::Corpora::NewStub(channel)),
        documents_(v1::Documents::NewStub(channel)),
        operations_(v1::Operations::NewStub(channel)),
        root_("tenants/" + tenant),
        key_(std::move(key)) {}

  // Seconds from the call of IngestCorpus to the end of its operation; the corpus is deleted after.
  double Ingest(const std::string& text, bool keep) {
    const std::string id = "c" + std::to_string(next_++);
    const std::string name = root_ + "/corpora/" + id;
    v1::CreateCorpusRequest create;
    create.set_parent(root_);
    create.set_corpus_id(id);
    v1::Corpus corpus;
    Check(corpora_->CreateCorpus(Context(), create, &corpus));
    v1::Document document;
    const auto writer = documents_->UploadDocument(Context(), &document);
    v1::UploadDocumentRequest message;
    message.mutable_header()->set_parent(name);
    message.mutable_header()->set_document_id("d");
    writer->Write(message);
    message.set_data(text);
    writer->Write(message);
    writer->WritesDone();
    Check(writer->Finish());

    const auto start = std::chrono::steady_clock::now();
    v1::IngestCorpusRequest ingest;
    ingest.set_name(name);
    v1::Operation operation;
    Check(corpora_->IngestCorpus(Context(), ingest, &operation));
    while (!operation.done()) {
      v1::WaitOperationRequest wait;
      wait.set_name(operation.name());
      Check(operations_->WaitOperation(Context(), wait, &operation));
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    Must(!operation.has_error(), operation.error().message());
    if (!keep) {
      v1::DeleteCorpusRequest remove;
      remove.set_name(name);
      google::protobuf::Empty empty;
      Check(corpora_->DeleteCorpus(Context(), remove, &empty));
    }
    return seconds;
  }

 private:
  grpc::ClientContext* Context() {
    context_ = std::make_unique<grpc::ClientContext>();
    context_->AddMetadata("authorization", "Bearer " + key_);
    return context_.get();
  }
  static void Check(const grpc::Status& status) { Must(status.ok(), status.error_message()); }

  const std::unique_ptr<v1::Corpora::Stub> corpora_;
  const std::unique_ptr<v1::Documents::Stub> documents_;
  const std::unique_ptr<v1::Operations::Stub> operations_;
  const std::string root_;
  const std::string key_;
  std::unique_ptr<grpc::ClientContext> context_;
  int next_ = 0;
};

// The probability that a time of `hits` is below one of `misses` (ties count half), or the
// converse: an attacker may use either.
double Auc(const std::vector<double>& hits, const std::vector<double>& misses) {
  double below = 0;
  for (const double hit : hits) {
    for (const double miss : misses) below += hit < miss ? 1 : hit == miss ? 0.5 : 0;
  }
  const double auc = below / static_cast<double>(hits.size() * misses.size());
  return std::max(auc, 1 - auc);
}

double Probe(Caller& victim, Caller& attacker, int trials, std::mt19937_64& random) {
  std::vector<bool> kinds(static_cast<size_t>(2 * trials));
  std::fill(kinds.begin(), kinds.begin() + trials, true);
  std::shuffle(kinds.begin(), kinds.end(), random);
  std::vector<double> hits;
  std::vector<double> misses;
  for (const bool same : kinds) {
    const std::string secret = RandomText(kDocumentWords, random());
    const std::string other = RandomText(kDocumentWords, random());
    victim.Ingest(secret, /*keep=*/true);
    (same ? hits : misses).push_back(attacker.Ingest(same ? secret : other, /*keep=*/false));
  }
  return Auc(hits, misses);
}

int Main(int trials) {
  const TemporaryDirectory folder;
  const std::string keys = folder / "keys.json";
  const std::string operator_key = MakeKey(keys, {"--role=operator"});
  const std::string victim_key = MakeKey(keys, {"--role=admin", "--tenant=victim"});
  const std::string attacker_key = MakeKey(keys, {"--role=admin", "--tenant=attacker"});
  Process server(
      {Program("lectern"), "serve", "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
       "--data_dir=" + (folder / "data"), "--model_dir=" + SmallModel(), "--pool_bytes=64MiB",
       "--index_bytes=64MiB", "--keys_file=" + keys},
      folder / "log");
  const std::string address = FieldOf(server.ReadLine(), "address");
  Must(!address.empty(), "lectern serve");
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  const auto tenants = v1::Tenants::NewStub(channel);
  for (const char* id : {"victim", "attacker"}) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + operator_key);
    v1::CreateTenantRequest request;
    request.set_tenant_id(id);
    v1::Tenant tenant;
    Must(tenants->CreateTenant(&context, request, &tenant).ok(), "CreateTenant");
  }
  Caller victim(channel, "victim", victim_key);
  Caller attacker(channel, "attacker", attacker_key);
  std::mt19937_64 random(kSeed);
  Probe(victim, attacker, 5, random);  // warm-up
  const double across = Probe(victim, attacker, trials, random);
  const double within = Probe(victim, victim, std::max(10, trials / 10), random);
  server.Signal(SIGTERM);
  server.Wait();
  const nlohmann::json row = {
      {"metric", "timing_auc"},
      {"size", 2 * trials},
      {"value", across},
      {"unit", "AUC of guessing another tenant's documents by ingest time"},
      {"against",
       "at most 0.55; within one tenant, where the cache shows: " + std::to_string(within)},
      {"ratio", across / kLimit}};
  std::printf("%s\n", row.dump().c_str());
  Must(within > kControl, "the control: a measurement that sees no cache hit proves nothing; it");
  return across <= kLimit ? 0 : 1;
}

}  // namespace
}  // namespace lectern::testing

int main(int argc, char** argv) {
  return lectern::testing::Main(argc > 1 ? std::atoi(argv[1]) : 300);
}
