// A corpus that goes from one engine to another: the same answers without a prefilled token, under
// the same names; what was damaged on the way is refused by name.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "engine/engine.h"
#include "engine/error/error.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

using testing::AskAndWait;
using testing::IngestAndWait;
using testing::RandomText;
using testing::TemporaryDirectory;
using testing::Upload;

class TransferTest : public ::testing::Test {
 protected:
  TransferTest() {
    testing::WriteRandomModel({}, model_.path());
    from_ = Open();
    to_ = Open();
    // So that numbers differ.
    Upload(*to_, {"default", "other"}, "a", RandomText(40, 9));
    IngestAndWait(*to_, {"default", "other"});
    Upload(*from_, name_, "a", RandomText(300, 1));
    operation_ = IngestAndWait(*from_, name_);
  }

  std::unique_ptr<Engine> Open() {
    return Engine::Open(
               {.model_dir = model_.path(), .pool_bytes = 64 << 20, .index_bytes = 64 << 20})
        .value();
  }

  std::unique_ptr<CorpusExport> Export(bool last) {
    return from_->ExportCorpus(name_, {}, {}, {.last = last}).value();
  }

  // All records of one round, but for what `damage` does to them.
  absl::Status Copy(
      CorpusImport& import,
      const std::function<void(size_t, CorpusRecord&)>& damage = [](size_t, CorpusRecord&) {}) {
    const auto out = Export(/*last=*/true);
    absl::Status status = import.BeginRound(out->bytes());
    for (size_t i = 0; status.ok(); ++i) {
      auto record = out->Next();
      if (!record.ok()) return record.status();
      if (!record->has_value()) return import.EndRound();
      damage(i, **record);
      status = import.Add(**record);
    }
    return status;
  }

  std::unique_ptr<CorpusImport> Import() {
    return to_->ImportCorpus(name_, Export(false)->origin()).value();
  }

  AskRequest Question(const std::string& session = "") {
    return {.target = {.corpus = name_, .session = session},
            .question = "What is it about?",
            .max_tokens = 8};
  }

  const TemporaryDirectory model_;
  const CorpusName name_ = {"default", "c"};
  std::unique_ptr<Engine> from_;
  std::unique_ptr<Engine> to_;
  Operation operation_;
};

TEST_F(TransferTest, GivesTheSameAnswersUnderTheSameNames) {
  ASSERT_TRUE(from_->CreateSession({name_, "talk"}, "", 0).ok());
  ASSERT_TRUE(AskAndWait(*from_, Question("talk")).ok());
  const auto import = Import();
  ASSERT_TRUE(Copy(*import).ok());
  EXPECT_EQ(ReasonOf(to_->GetCorpus(name_).status()), "CORPUS_NOT_FOUND");
  ASSERT_TRUE(import->Publish().ok());
  ASSERT_EQ(to_->Imports()->size(), 1u);
  EXPECT_TRUE(to_->Imports()->front().published);
  EXPECT_EQ(to_->Imports()->front().name.corpus, "c");
  EXPECT_TRUE(to_->FinishImport(import->uid()).ok());
  EXPECT_EQ(ReasonOf(to_->FinishImport(import->uid())), "IMPORT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(to_->AbandonImport(import->uid())), "IMPORT_NOT_FOUND");

  const auto here = from_->GetCorpus(name_);
  const auto there = to_->GetCorpus(name_);
  ASSERT_TRUE(here.ok() && there.ok());
  EXPECT_EQ(there->current_generation, here->current_generation);
  EXPECT_EQ(there->current_generation, operation_.generation);
  EXPECT_EQ(to_->GetStats()->documents, 2);
  for (const std::string session : {"", "talk"}) {
    const auto answer = AskAndWait(*from_, Question(session));
    const auto same = AskAndWait(*to_, Question(session));
    ASSERT_TRUE(answer.ok() && same.ok()) << answer.status() << same.status();
    EXPECT_EQ(same->text, answer->text);
    EXPECT_EQ(same->turn, answer->turn);
    EXPECT_EQ(same->usage.corpus_prefill_tokens, 0);
    EXPECT_EQ(same->usage.cached_tokens, answer->usage.cached_tokens);
  }
  const auto operation = to_->GetOperation(operation_.name);
  ASSERT_TRUE(operation.ok()) << operation.status();
  EXPECT_EQ(operation->generation, operation_.generation);
  AskRequest pinned = Question();
  pinned.target.generation = operation_.generation;
  EXPECT_TRUE(AskAndWait(*to_, pinned).ok());
  // The uid that it has here is no name of it.
  pinned.target.generation = "g999999";
  EXPECT_EQ(ReasonOf(AskAndWait(*to_, pinned).status()), "GENERATION_NOT_FOUND");
  // What is added here costs what is new, and gets a name that nothing of the corpus ever had.
  Upload(*to_, name_, "b", RandomText(100, 2));
  const Operation next = IngestAndWait(*to_, name_);
  EXPECT_GE(next.tokens_cached, 128);
  EXPECT_NE(next.generation, operation_.generation);
}

TEST_F(TransferTest, AReplicaAnswersWithoutItsSource) {
  ASSERT_TRUE(from_->CreateSession({name_, "talk"}, "", 0).ok());
  ASSERT_TRUE(AskAndWait(*from_, Question("talk")).ok());
  {
    const auto import = Import();
    const auto out = from_->ExportCorpus(name_, {}, {}, {.turns = true}).value();
    EXPECT_FALSE(out->busy());
    ASSERT_TRUE(import->BeginRound(out->bytes()).ok());
    for (auto record = out->Next(); record->has_value(); record = out->Next()) {
      ASSERT_TRUE(import->Add(**record).ok());
    }
    ASSERT_TRUE(import->EndRound().ok());
    EXPECT_FALSE(out->more());
    EXPECT_TRUE(import->Keep(true).value());
  }
  const auto answer = AskAndWait(*from_, Question());
  const auto said = AskAndWait(*from_, Question("talk"));
  ASSERT_TRUE(answer.ok() && said.ok());
  from_.reset();
  ASSERT_EQ(to_->Imports()->size(), 1u);
  const ImportedCorpus kept = to_->Imports()->front();
  EXPECT_TRUE(kept.kept);
  ASSERT_TRUE(to_->ImportCorpus(name_, kept.origin).value()->PublishKept().ok());
  EXPECT_TRUE(to_->Imports()->empty());
  const auto same = AskAndWait(*to_, Question());
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->text, answer->text);
  EXPECT_EQ(same->usage.corpus_prefill_tokens, 0);
  const auto next = AskAndWait(*to_, Question("talk"));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(next->text, said->text);
  EXPECT_EQ(next->turn, 2);
  // Nothing was kept of another.
  EXPECT_EQ(ReasonOf(to_->ImportCorpus({"default", "none"}, {"x", 1}).value()->PublishKept()),
            "IMPORT_NOT_FOUND");
}

TEST_F(TransferTest, WhatWasDamagedOnTheWayIsRefused) {
  size_t records = 0;
  {
    const auto import = Import();
    ASSERT_TRUE(Copy(*import, [&](size_t, CorpusRecord&) { ++records; }).ok());
    EXPECT_TRUE(to_->AbandonImport(import->uid()).ok());
  }
  for (size_t at = 0; at < records; at += 1 + records / 20) {
    const auto import = Import();
    const absl::Status status = Copy(*import, [&](size_t i, CorpusRecord& record) {
      if (i == at) record.value.back() = static_cast<char>(record.value.back() ^ 1);
    });
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << at;
    EXPECT_EQ(ReasonOf(status), "TRANSFER_DAMAGED") << at;
    EXPECT_EQ(ReasonOf(to_->GetCorpus(name_).status()), "CORPUS_NOT_FOUND");
    EXPECT_TRUE(to_->AbandonImport(import->uid()).ok());
  }
  EXPECT_TRUE(to_->Imports()->empty());
}

TEST_F(TransferTest, ACorpusThatIsBeingIngestedHasNoLastRound) {
  Upload(*from_, name_, "b", RandomText(2000, 3));
  const auto running = from_->IngestCorpus(name_, false);
  ASSERT_TRUE(running.ok());
  const absl::Status refused = from_->ExportCorpus(name_, {}, {}, {.last = true}).status();
  EXPECT_EQ(ReasonOf(refused), "INGEST_RUNNING");
  EXPECT_EQ(MetadataOf(refused).at("operation"), running->name.id);
  EXPECT_TRUE(from_->ExportCorpus(name_, {}, {}, {}).ok());
  EXPECT_EQ(ReasonOf(from_->ExportCorpus({"default", "none"}, {}, {}, {}).status()),
            "CORPUS_NOT_FOUND");
}

}  // namespace
}  // namespace lectern::engine
