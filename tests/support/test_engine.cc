#include "tests/support/test_engine.h"

#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <random>

namespace lectern::testing {
namespace {

using namespace engine;  // NOLINT: the tests' subject

template <typename T>
T Must(absl::StatusOr<T> value, const char* what) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s: %s\n", what, value.status().ToString().c_str());
    std::abort();
  }
  return *std::move(value);
}

}  // namespace

std::string RandomText(int words, uint64_t seed) {
  static const char* const kSyllables[] = {"ba", "cor", "den", "el", "fi", "gra", "hon",
                                           "is", "jo",  "ka",  "lu", "mi", "nor", "ov",
                                           "pe", "qui", "ra",  "st", "tu", "ver"};
  std::mt19937_64 random(seed);
  std::string text;
  for (int word = 0; word < words; ++word) {
    const int syllables = 1 + static_cast<int>(random() % 3);
    for (int i = 0; i < syllables; ++i) text += kSyllables[random() % 20];
    const uint64_t dice = random() % 40;
    text += dice == 0 ? ".\n\n" : dice < 4 ? ". " : dice == 4 ? "\n" : " ";
  }
  return text;
}

void Upload(Engine& engine, const CorpusName& corpus, const std::string& id,
            const std::string& text) {
  if (!engine.GetCorpus(corpus).ok()) Must(engine.CreateCorpus(corpus, "", 0), "create corpus");
  std::unique_ptr<DocumentUpload> upload =
      Must(engine.BeginUpload({.corpus = corpus, .document_id = id}), "begin upload");
  const absl::Status appended = upload->Append(text);
  if (!appended.ok()) {
    std::fprintf(stderr, "append: %s\n", appended.ToString().c_str());
    std::abort();
  }
  Must(upload->Finish(), "finish upload");
}

Operation WaitFor(Engine& engine, const ResourceName& operation) {
  auto ended = std::make_shared<std::promise<Operation>>();
  std::future<Operation> future = ended->get_future();
  auto ticket = Must(
      engine.WatchOperation(operation, [ended](Operation outcome) { ended->set_value(outcome); }),
      "watch");
  return future.get();
}

Operation IngestAndWait(Engine& engine, const CorpusName& corpus) {
  return WaitFor(engine, Must(engine.IngestCorpus(corpus, false), "ingest").name);
}

absl::StatusOr<Answer> AskAndWait(Engine& engine, const AskRequest& request,
                                  std::string* streamed) {
  auto done = std::make_shared<std::promise<absl::StatusOr<Answer>>>();
  auto text = std::make_shared<std::string>();
  std::future<absl::StatusOr<Answer>> future = done->get_future();
  auto ticket = engine.Ask(
      request,
      {.text = [text](std::string_view piece) { text->append(piece); },
       .done = [done](absl::StatusOr<Answer> answer) { done->set_value(std::move(answer)); }});
  if (!ticket.ok()) return ticket.status();
  absl::StatusOr<Answer> answer = future.get();
  if (streamed != nullptr) *streamed = *text;
  return answer;
}

absl::StatusOr<Retrieval> RetrieveAndWait(Engine& engine, const RetrieveRequest& request) {
  auto done = std::make_shared<std::promise<absl::StatusOr<Retrieval>>>();
  std::future<absl::StatusOr<Retrieval>> future = done->get_future();
  auto ticket = engine.Retrieve(
      request, [done](absl::StatusOr<Retrieval> result) { done->set_value(std::move(result)); });
  if (!ticket.ok()) return ticket.status();
  return future.get();
}

}  // namespace lectern::testing
