#include "tests/campaign/snapshot.h"

#include <memory>
#include <vector>

#include "storage/records.h"
#include "storage/store.h"
#include "tests/support/byte_digest.h"

namespace lectern::campaign {
namespace {

using storage::Store;

class Reader {
 public:
  explicit Reader(Store* store) : store_(*store) {}

  absl::StatusOr<std::string> Read() {
    auto tenants = store_.catalog().ListTenants({});
    if (!tenants.ok()) return tenants.status();
    for (const storage::Tenant& tenant : tenants->items) {
      AddRecord(tenant);
      auto corpora = store_.catalog().ListCorpora(tenant.uid, {});
      if (!corpora.ok()) return corpora.status();
      for (const storage::Corpus& corpus : corpora->items) {
        if (absl::Status status = ReadCorpus(corpus); !status.ok()) return status;
      }
    }
    return digest_.Hex();
  }

 private:
  void Add(const void* bytes, size_t size) { digest_.Add(bytes, size); }
  template <typename T>
  void AddRecord(const T& record) {
    const std::string bytes = storage::FormatRecord("", record);
    Add(bytes.data(), bytes.size());
  }

  absl::Status ReadCorpus(const storage::Corpus& corpus) {
    AddRecord(corpus);
    storage::Catalog& catalog = store_.catalog();
    auto named = catalog.GetCorpus(corpus.tenant_uid, corpus.id);
    if (!named.ok()) return Missing(named.status());
    auto documents = catalog.ListDocuments(corpus.uid, {});
    if (!documents.ok()) return documents.status();
    for (const storage::Document& document : documents->items) {
      auto by_name = catalog.GetDocument(corpus.uid, document.id);
      if (!by_name.ok()) return Missing(by_name.status());
      AddRecord(document);
      auto bytes = catalog.ReadDocument(document, 0, UINT64_MAX);
      if (!bytes.ok()) return bytes.status();
      Add(bytes->data(), bytes->size());
    }
    auto operations = catalog.ListOperations(corpus.tenant_uid, corpus.uid, {});
    if (!operations.ok()) return operations.status();
    for (const storage::Operation& operation : operations->items) AddRecord(operation);
    auto generations = catalog.ListGenerations(corpus.uid, {});
    if (!generations.ok()) return generations.status();
    for (const storage::Generation& generation : generations->items) {
      AddRecord(generation);
      if (absl::Status status = ReadGeneration(corpus, generation); !status.ok()) return status;
    }
    return ReadSessions(corpus);
  }

  absl::Status ReadGeneration(const storage::Corpus& corpus,
                              const storage::Generation& generation) {
    for (uint32_t part = 0;; ++part) {
      auto bytes = store_.catalog().GetLayoutPart(generation.uid, 0, part);
      if (absl::IsNotFound(bytes.status())) break;
      if (!bytes.ok()) return bytes.status();
      Add(bytes->data(), bytes->size());
    }
    std::vector<storage::BlockHash> hashes;
    const storage::GenerationContext& context = generation.contexts[0];
    absl::Status status = ReadContext(corpus.tenant_uid, context.segments, context.token_count,
                                      generation.geometry, &hashes);
    if (!status.ok()) return status;
    auto prefix = store_.blocks().LookupPrefix(corpus.tenant_uid, hashes);
    if (!prefix.ok()) return prefix.status();
    for (const storage::Segment& segment : *prefix) Add(&segment, sizeof(segment));
    return absl::OkStatus();
  }

  absl::Status ReadContext(uint64_t tenant, const std::vector<storage::Segment>& segments,
                           uint64_t tokens, const storage::Geometry& geometry,
                           std::vector<storage::BlockHash>* hashes) {
    auto reader = store_.blocks().OpenContext(tenant, segments, tokens, geometry);
    if (!reader.ok()) return Missing(reader.status());
    for (uint16_t layer = 0; layer < geometry.layers; ++layer) {
      for (uint32_t block = 0; block < (*reader)->block_count(); ++block) {
        auto info = (*reader)->Block(block);
        if (!info.ok()) return info.status();
        if (layer == 0 && info->tokens == storage::kBlockTokens) hashes->push_back(info->hash);
        std::vector<std::byte> kv(geometry.KvBytes(info->tokens));
        absl::Status status = (*reader)->ReadKv(
            {.layer = layer, .block = block, .out = kv.data(), .token_capacity = info->tokens});
        if (!status.ok()) return status;
        Add(kv.data(), kv.size());
      }
      if (geometry.indexed[layer] == 0) continue;
      std::vector<std::byte> keys(geometry.IndexBytes(static_cast<uint32_t>(tokens)));
      absl::Status status = (*reader)->ReadIndexKeys(layer, 0, (*reader)->block_count(), keys);
      if (!status.ok()) return status;
      Add(keys.data(), keys.size());
    }
    return absl::OkStatus();
  }

  absl::Status ReadSessions(const storage::Corpus& corpus) {
    storage::Catalog& catalog = store_.catalog();
    auto sessions = catalog.ListSessions(corpus.uid, {});
    if (!sessions.ok()) return sessions.status();
    for (const storage::Session& session : sessions->items) {
      auto named = catalog.GetSession(corpus.uid, session.id);
      if (!named.ok()) return Missing(named.status());
      AddRecord(session);
      for (uint32_t number = 0; number < session.turn_count; ++number) {
        auto turn = catalog.GetTurn(session.uid, number);
        if (!turn.ok()) return Missing(turn.status());
        AddRecord(*turn);
      }
      auto generation = catalog.GetGeneration(session.generation_uid);
      if (!generation.ok()) return Missing(generation.status());
      std::vector<storage::BlockHash> ignored;
      absl::Status status = ReadContext(corpus.tenant_uid, session.segments, session.token_count,
                                        generation->geometry, &ignored);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // What a list or a record names must be there: its absence is a loss that was noticed.
  static absl::Status Missing(const absl::Status& status) {
    if (!absl::IsNotFound(status)) return status;
    return absl::DataLossError(std::string(status.message()));
  }

  Store& store_;
  testing::ByteDigest digest_;
};

}  // namespace

absl::StatusOr<std::string> SnapshotDigest(const std::string& directory) {
  auto store = Store::Open({.directory = directory, .reader_threads = 1});
  if (!store.ok()) return store.status();
  return Reader(store->get()).Read();
}

}  // namespace lectern::campaign
