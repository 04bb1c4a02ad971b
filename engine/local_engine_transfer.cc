// Corpora on their way from and to other engines.
#include <fmt/format.h>

#include <utility>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/kv/prefix_chain.h"
#include "engine/local_engine.h"
#include "engine/names.h"
#include "engine/public_name.h"
#include "engine/text/prompt_layout.h"

namespace lectern::engine {
namespace {

// What tables, directories and the log take beside the bytes themselves, from above.
constexpr int64_t kOverheadShare = 16;
constexpr int64_t kOverheadBytes = 4 << 20;

absl::Status AsChanged(const absl::Status& status) {
  if (!absl::IsAborted(status)) return WithReason(status);
  return Error(absl::StatusCode::kUnavailable, "CORPUS_CHANGED",
               "the corpus was changed while it was read; try again");
}

absl::Status AsDamaged(const absl::Status& status) {
  if (!absl::IsDataLoss(status) || !ReasonOf(status).empty()) return WithReason(status);
  return Error(status.code(), "TRANSFER_DAMAGED",
               fmt::format("what came is not what is stored at its origin: {}",
                           std::string_view(status.message().data(), status.message().size())));
}

class ExportedCorpus final : public CorpusExport {
 public:
  ExportedCorpus(std::unique_ptr<storage::CorpusExport> records, CorpusOrigin origin,
                 CorpusUses::Use use, bool busy)
      : use_(std::move(use)),
        records_(std::move(records)),
        origin_(std::move(origin)),
        busy_(busy) {}

  const CorpusOrigin& origin() const override { return origin_; }
  int64_t bytes() const override { return static_cast<int64_t>(records_->bytes()); }
  bool busy() const override { return busy_; }
  bool more() const override { return records_->more(); }
  absl::StatusOr<std::optional<CorpusRecord>> Next() override {
    absl::StatusOr<std::optional<storage::TransferRecord>> record = records_->Next();
    if (!record.ok()) return AsChanged(record.status());
    if (!record->has_value()) return std::nullopt;
    return CorpusRecord{static_cast<uint32_t>((*record)->family), std::move((*record)->key),
                        std::move((*record)->value)};
  }

 private:
  const CorpusUses::Use use_;
  const std::unique_ptr<storage::CorpusExport> records_;
  const CorpusOrigin origin_;
  const bool busy_;
};

class ArrivingCorpus final : public CorpusImport {
 public:
  ArrivingCorpus(std::unique_ptr<storage::CorpusImport> records, DiskRoom* room,
                 std::function<absl::Status()> published)
      : records_(std::move(records)), room_(room), published_(std::move(published)) {}

  uint64_t uid() const override { return records_->corpus_uid(); }

  absl::StatusOr<CorpusParts> Have() const override {
    absl::StatusOr<storage::TransferHave> have = records_->Have();
    if (!have.ok()) return WithReason(have.status());
    CorpusParts parts = {.documents = std::move(have->documents),
                         .generations = std::move(have->generations)};
    for (const auto& blocks : have->blocks) {
      parts.blocks.push_back({blocks.lineage, blocks.end_block, blocks.tail_tokens});
    }
    return parts;
  }

  absl::Status BeginRound(int64_t bytes) override {
    LECTERN_ASSIGN_OR_RETURN(
        promise_, room_->Reserve(bytes + bytes / kOverheadShare + kOverheadBytes, "the corpus"));
    records_->BeginRound();
    return absl::OkStatus();
  }

  absl::Status Add(const CorpusRecord& record) override {
    if (record.family >= storage::kColumnFamilyCount) {
      return Error(absl::StatusCode::kDataLoss, "TRANSFER_DAMAGED",
                   fmt::format("there is no column family {}", record.family));
    }
    LECTERN_RETURN_IF_ERROR(AsDamaged(records_->Add(
        {static_cast<storage::ColumnFamily>(record.family), record.key, record.value})));
    promise_.Written(static_cast<int64_t>(record.value.size()));
    return absl::OkStatus();
  }

  absl::Status EndRound() override { return AsDamaged(records_->EndRound()); }

  absl::Status Publish() override {
    absl::StatusOr<storage::Corpus> corpus = records_->Publish();
    if (absl::IsAlreadyExists(corpus.status())) {
      return WithReason(corpus.status(), "TENANT_NOT_FOUND", "CORPUS_EXISTS");
    }
    if (!corpus.ok()) return AsDamaged(corpus.status());
    return published_();
  }

  absl::StatusOr<bool> Keep(bool cache) override {
    absl::StatusOr<bool> kept = records_->Keep(cache);
    if (!kept.ok()) return AsDamaged(kept.status());
    // It may be long until the next round.
    promise_ = DiskPromise();
    records_->BeginRound();
    return kept;
  }

  absl::Status PublishKept() override {
    const absl::StatusOr<storage::Corpus> corpus = records_->PublishKept();
    if (!corpus.ok() && !absl::IsDataLoss(corpus.status())) {
      return WithReason(corpus.status(), "IMPORT_NOT_FOUND", "CORPUS_EXISTS");
    }
    if (!corpus.ok()) return AsDamaged(corpus.status());
    return published_();
  }

 private:
  const std::unique_ptr<storage::CorpusImport> records_;
  DiskRoom* const room_;
  const std::function<absl::Status()> published_;
  DiskPromise promise_;
};

// The tokens of a context, from its layout.
absl::StatusOr<std::vector<TokenId>> ContextTokens(const storage::Catalog& catalog,
                                                   const storage::Generation& generation,
                                                   uint32_t context) {
  const auto count = static_cast<int64_t>(generation.contexts[context].token_count);
  std::vector<TokenId> tokens;
  tokens.reserve(static_cast<size_t>(count));
  for (uint32_t part = 0; static_cast<int64_t>(tokens.size()) < count; ++part) {
    absl::StatusOr<std::string> bytes = catalog.GetLayoutPart(generation.uid, context, part);
    if (absl::IsNotFound(bytes.status())) {
      return absl::DataLossError(
          fmt::format("the layout ends after {} of {} tokens", tokens.size(), count));
    }
    if (!bytes.ok()) return bytes.status();
    LECTERN_ASSIGN_OR_RETURN(const LayoutPart layout, LayoutPart::Parse(*bytes));
    if (layout.begin() != static_cast<int64_t>(tokens.size()) || layout.tokens().empty()) {
      return absl::DataLossError("the parts of a layout do not follow one another");
    }
    for (const LayoutToken& token : layout.tokens()) tokens.push_back(token.id);
  }
  const std::vector<int32_t>& tail = generation.contexts[context].tail_tokens;
  if (static_cast<int64_t>(tokens.size()) != count ||
      !std::equal(tail.begin(), tail.end(), tokens.end() - static_cast<int64_t>(tail.size()))) {
    return absl::DataLossError("a layout has other tokens than its context");
  }
  return tokens;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CorpusExport>> LocalEngine::ExportCorpus(
    const CorpusName& name, const CorpusOrigin& origin, const CorpusParts& have,
    const TransferRound& round) {
  CorpusUses::Use use;
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpusToUse(name, &use));
  absl::StatusOr<std::vector<storage::Operation>> running = store_->catalog().RunningOperations();
  if (!running.ok()) return WithReason(running.status());
  bool busy = false;
  for (const storage::Operation& operation : *running) {
    if (operation.corpus_uid != corpus.uid) continue;
    busy = true;
    if (round.last) {
      LECTERN_ASSIGN_OR_RETURN(const std::string id,
                               PublicName(store_->catalog(), "op", operation.uid));
      return Error(absl::StatusCode::kFailedPrecondition, "INGEST_RUNNING",
                   fmt::format("corpus {} is being ingested by operation {}", name.corpus, id),
                   {{"operation", id}});
    }
  }
  CorpusOrigin own = {store_->store_id(), corpus.uid};
  storage::TransferHave had;
  if (origin == own) {
    had.documents = have.documents;
    had.generations = have.generations;
    for (const auto& blocks : have.blocks) {
      had.blocks.push_back({blocks.lineage, blocks.end_block, blocks.tail_tokens});
    }
  }
  absl::StatusOr<std::unique_ptr<storage::CorpusExport>> records =
      store_->ExportCorpus(corpus.uid, had,
                           {.last = round.last,
                            .turns = round.turns,
                            .cache_bytes = static_cast<uint64_t>(round.cache_bytes)});
  if (!records.ok()) return AsChanged(records.status());
  return std::make_unique<ExportedCorpus>(*std::move(records), std::move(own), std::move(use),
                                          busy);
}

absl::StatusOr<std::unique_ptr<CorpusImport>> LocalEngine::ImportCorpus(
    const CorpusName& name, const CorpusOrigin& origin) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Tenant tenant, FindTenant(name.tenant));
  // Equal prefixes are to be found here by what is stored here: hashes with this store's salt.
  const auto hashes = [this, tenant_uid = tenant.uid](
                          const storage::Generation& generation,
                          uint32_t context) -> absl::StatusOr<std::vector<storage::BlockHash>> {
    LECTERN_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens,
                             ContextTokens(store_->catalog(), generation, context));
    return PrefixChain(generation.model_fingerprint, store_->secret(), tenant_uid).Blocks(tokens);
  };
  absl::StatusOr<std::unique_ptr<storage::CorpusImport>> records =
      store_->ImportCorpus(tenant.uid, name.corpus, origin.store_id, origin.corpus_uid, hashes);
  if (!records.ok()) return WithReason(records.status());
  return std::make_unique<ArrivingCorpus>(*std::move(records), room_.get(), [this] {
    ForgetCacheView();
    return WithReason(CountAll());
  });
}

absl::StatusOr<std::vector<ImportedCorpus>> LocalEngine::Imports() {
  absl::StatusOr<std::vector<storage::ImportState>> imports = store_->Imports();
  if (!imports.ok()) return WithReason(imports.status());
  std::vector<ImportedCorpus> result;
  for (const storage::ImportState& import : *imports) {
    absl::StatusOr<storage::Tenant> tenant = store_->catalog().GetTenantByUid(import.tenant_uid);
    if (!tenant.ok() && !absl::IsNotFound(tenant.status())) return WithReason(tenant.status());
    result.push_back({import.corpus_uid,
                      {tenant.ok() ? tenant->id : std::string(), import.id},
                      {import.source_store, import.source_corpus},
                      import.published,
                      import.kept});
  }
  return result;
}

absl::Status LocalEngine::FinishImport(uint64_t uid) {
  return WithReason(store_->FinishImport(uid), "IMPORT_NOT_FOUND");
}

absl::Status LocalEngine::AbandonImport(uint64_t uid) {
  LECTERN_RETURN_IF_ERROR(WithReason(store_->AbandonImport(uid, NowUs()), "IMPORT_NOT_FOUND"));
  ForgetCacheView();
  LECTERN_RETURN_IF_ERROR(WithReason(CountAll()));
  WakeMaintenance();
  return absl::OkStatus();
}

}  // namespace lectern::engine
