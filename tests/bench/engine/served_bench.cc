#include "served_bench.h"

#include <fstream>
#include <future>
#include <random>
#include <thread>

#include "machine_limits.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

constexpr const char* kWrittenTexts[] = {"employee_handbook", "insurance_policy", "lease",
                                         "museum_guide",      "quarterly_report", "travel_diary"};
constexpr int kCopyQuestions = 24;
constexpr int kCopiedTokens = 48;
constexpr int kIdleQuestions = 64;
constexpr int64_t kAskedTogether = 131072;  // the context that many questions are asked of at once

double FirstToken(Engine& engine, const CorpusName& corpus, const std::string& question,
                  int64_t* disk_bytes = nullptr) {
  const Answer answer = Must(testing::AskAndWait(
      engine, {.target = {.corpus = corpus}, .question = question, .max_tokens = 1}));
  if (disk_bytes != nullptr) *disk_bytes = answer.usage.disk_bytes;
  return static_cast<double>(answer.usage.time_to_first_token_us) / 1e6;
}

// Answers a second of `count` questions asked at once; each of its own, and short as the model's
// are.
double Throughput(Engine& engine, const CorpusName& corpus, int count) {
  const double begin = Seconds();
  std::vector<std::thread> askers;
  for (int i = 0; i < count; ++i) {
    askers.emplace_back([&, i] {
      Must(testing::AskAndWait(
          engine, {.target = {.corpus = corpus},
                   .question = fmt::format("What is said of {}?", testing::RandomText(2, 100 + i)),
                   .max_tokens = 32}));
    });
  }
  for (std::thread& asker : askers) asker.join();
  return count / (Seconds() - begin);
}

// Answers that copy from texts that people wrote, among `tokens` tokens of other text, with guesses
// and without.
void DraftedAnswers(EngineOptions options, int64_t tokens, BenchReport* report) {
  const CorpusName corpus = {.tenant = "default", .corpus = "written"};
  std::vector<std::string> texts;
  {
    auto engine = Must(Engine::Open(options));
    for (const char* name : kWrittenTexts) {
      std::ifstream file(fmt::format("{}/training/handwritten/{}.txt", LECTERN_SOURCE_DIR, name));
      texts.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
      testing::Upload(*engine, corpus, name, texts.back());
    }
    // Of the written ones about four bytes are a token.
    const double written = static_cast<double>(texts.size() * texts[0].size()) / 4;
    testing::Upload(
        *engine, corpus, "other",
        testing::RandomText(static_cast<int>((static_cast<double>(tokens) - written) / 2.9), 5));
    Must(testing::IngestAndWait(*engine, corpus).error);
  }
  std::vector<std::string> questions;
  std::mt19937 random(9);
  while (questions.size() < kCopyQuestions) {
    const std::string& text = texts[random() % texts.size()];
    const size_t begin = text.find(' ', random() % (text.size() - 500)) + 1;
    size_t end = begin;
    for (int word = 0; word < 8; ++word) end = text.find_first_of(" \n", end + 1);
    const std::string quote = text.substr(begin, end - begin);
    if (quote.find('\n') == std::string::npos) {
      questions.push_back("What follows the words: " + quote);
    }
  }
  struct Asked {
    std::vector<std::string> texts;
    double tokens = 0, seconds = 0;  // behind the first token of each answer
    int64_t tokens_in_context = 0, drafted = 0, accepted = 0;
  };
  const auto ask_all = [&](bool drafts) {
    options.drafts = drafts;
    auto engine = Must(Engine::Open(options));
    Asked asked;
    for (int round = 0; round < 2; ++round) {  // the first one brings into memory what they read
      asked = {};
      for (const std::string& question : questions) {
        const Answer answer = Must(testing::AskAndWait(
            *engine,
            {.target = {.corpus = corpus}, .question = question, .max_tokens = kCopiedTokens}));
        const Usage& usage = answer.usage;
        asked.texts.push_back(answer.text);
        asked.tokens_in_context = usage.cached_tokens;
        asked.tokens += static_cast<double>(usage.generated_tokens - 1);
        asked.seconds +=
            static_cast<double>(usage.total_time_us - usage.time_to_first_token_us) / 1e6;
        asked.drafted += usage.drafted_tokens;
        asked.accepted += usage.accepted_tokens;
      }
    }
    return asked;
  };
  const Asked without = ask_all(false);
  const Asked with = ask_all(true);
  int equal = 0;
  for (size_t i = 0; i < questions.size(); ++i) equal += with.texts[i] == without.texts[i];
  const double rate = with.tokens / with.seconds;
  const double plain = without.tokens / without.seconds;
  report->Add(
      {"drafted_answers", with.tokens_in_context, rate, "tokens/s",
       fmt::format("{:.1f} tokens/s: without; {} of {} guesses right, {} of {} answers equal, "
                   "{:.1f} tokens each",
                   plain, with.accepted, with.drafted, equal, questions.size(),
                   with.tokens / static_cast<double>(questions.size())),
       rate / plain});
}

// Seconds between the tokens of short answers, one question after the other, until `enough` says
// so.
template <typename Enough>
std::vector<double> TokenSeconds(Engine& engine, const CorpusName& corpus, const Enough& enough) {
  std::vector<double> seconds;
  for (int i = 0; !enough(i); ++i) {
    std::promise<absl::Status> done;
    double last = 0;
    const auto ticket = Must(engine.Ask(
        {.target = {.corpus = corpus},
         .question = fmt::format("What is said of {}?", testing::RandomText(2, 500 + i)),
         .max_tokens = 16},
        {.text =
             [&](std::string_view) {
               const double now = Seconds();
               if (last != 0) seconds.push_back(now - last);
               last = now;
             },
         .done = [&](absl::StatusOr<Answer> answer) { done.set_value(answer.status()); }}));
    Must(done.get_future().get());
  }
  return seconds;
}

// Answers while another corpus is prefilled beside them: what a token takes longer, and what the
// prefill loses by them.
void Interference(EngineOptions options, const CorpusName& corpus, int64_t tokens,
                  BenchReport* report) {
  options.drafts = false;  // steps of one token, whatever the answers copy
  auto engine = Must(Engine::Open(options));
  const auto ingest = [&](const std::string& id, uint64_t seed, const auto& meanwhile) {
    const CorpusName other = {.tenant = corpus.tenant, .corpus = id};
    testing::Upload(*engine, other, "text",
                    testing::RandomText(static_cast<int>(static_cast<double>(tokens) / 2.9), seed));
    const double begin = Seconds();
    const Operation running = Must(engine->IngestCorpus(other, false));
    meanwhile(running.name);
    const Operation ended = testing::WaitFor(*engine, running.name);
    Must(ended.error);
    return static_cast<double>(ended.tokens_total) / (Seconds() - begin);
  };
  TokenSeconds(*engine, corpus, [](int asked) { return asked == kIdleQuestions / 4; });
  const std::vector<double> idle =
      TokenSeconds(*engine, corpus, [](int asked) { return asked == kIdleQuestions; });
  const double alone = ingest("alone", 31, [](const ResourceName&) {});
  std::vector<double> busy;
  const double beside = ingest("beside", 37, [&](const ResourceName& operation) {
    busy = TokenSeconds(*engine, corpus,
                        [&](int) { return Must(engine->GetOperation(operation)).done; });
  });
  if (idle.empty() || busy.empty()) return;  // every answer was one token
  for (const auto& [name, share] :
       {std::pair{"interference_p50", 0.5}, {"interference_p99", 0.99}}) {
    const double quiet = Quantile(idle, share);
    const double disturbed = Quantile(busy, share);
    report->Add(
        {name, tokens, disturbed * 1e3, "ms/token",
         fmt::format("{:.3f} ms/token: nothing beside; {} tokens", quiet * 1e3, busy.size()),
         disturbed / quiet});
  }
  report->Add({"interference_ingest", tokens, beside, "tokens/s",
               fmt::format("{:.0f} tokens/s: nobody asks", alone), beside / alone});
}

}  // namespace

void StoredContext(EngineOptions options, int64_t tokens, BenchReport* report) {
  const CorpusName corpus = {.tenant = "default", .corpus = "bench"};
  options.batch_limit = 64;
  double prefill_seconds = 0;
  int64_t prefilled = 0;
  int64_t stored = 0;
  // 2.86 tokens a word of this text: a little less than `tokens`, which the longest context, less
  // what is kept for questions, must take.
  const std::string text =
      testing::RandomText(static_cast<int>(static_cast<double>(tokens) / 2.9), 3);
  {
    auto engine = Must(Engine::Open(options));
    testing::Upload(*engine, corpus, "text", text);
    const double begin = Seconds();
    const Operation operation = testing::IngestAndWait(*engine, corpus);
    prefill_seconds = Seconds() - begin;
    Must(operation.error);
    prefilled = operation.tokens_total;
    stored = Must(engine->GetCorpus(corpus)).cache_bytes;
  }
  std::vector<double> cold, warm;
  int64_t cold_bytes = 0;  // index keys and the selected blocks
  for (int round = 0; round < 5; ++round) {
    auto engine = Must(Engine::Open(options));
    DropPages(options.data_dir);
    cold.push_back(FirstToken(*engine, corpus, "What is it?", &cold_bytes));
    for (int again = 0; again < 3; ++again)
      warm.push_back(FirstToken(*engine, corpus, "What is it?"));
    if (round < 4 || tokens != kAskedTogether) continue;
    Throughput(*engine, corpus, 64);  // so that what they select is in memory
    const double one = Throughput(*engine, corpus, 1);
    for (const int count : {16, 64}) {
      const double many = Throughput(*engine, corpus, count);
      report->Add({fmt::format("answers_{}", count), prefilled, many, "answers/s",
                   fmt::format("{:.1f} answers/s: one question", one), many / one});
    }
  }
  const double rate = DiskRate(options.data_dir);
  const double read = static_cast<double>(cold_bytes) / rate;
  const double all = static_cast<double>(stored) / rate;
  const double first = Median(cold);
  report->Add({"ttft_disk", prefilled, first * 1e3, "ms",
               fmt::format("{:.1f} ms: the {:.1f} MB it read at the {:.0f} MB/s of the disk",
                           read * 1e3, static_cast<double>(cold_bytes) / 1e6, rate / 1e6),
               first / read});
  report->Add({"ttft_recompute", prefilled, prefill_seconds * 1e3, "ms",
               fmt::format("{:.1f} ms: cold from disk", first * 1e3), prefill_seconds / first});
  report->Add({"ttft_load_all", prefilled, all * 1e3, "ms",
               fmt::format("{:.1f} ms: cold from disk; {:.1f} MB of cache", first * 1e3,
                           static_cast<double>(stored) / 1e6),
               all / first});
  report->Add({"ttft_device", prefilled, Median(warm) * 1e3, "ms",
               fmt::format("{:.1f} ms: cold from disk", first * 1e3), first / Median(warm)});
  Interference(options, corpus, prefilled, report);
  DraftedAnswers(options, tokens, report);
}

}  // namespace lectern::engine
