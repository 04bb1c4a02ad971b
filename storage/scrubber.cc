#include "storage/scrubber.h"

#include <algorithm>
#include <thread>

#include <fmt/format.h>

#include "storage/keys.h"
#include "storage/records.h"
#include "storage/sha256.h"

namespace lectern::storage {
namespace {

// Between two looks at `stop`, however slow the pace.
constexpr std::chrono::milliseconds kLongestNap(100);

constexpr uint64_t kDocumentStep = 1 << 20;

// A record of the catalog by its key space; OK for key spaces of a newer program, which it knows.
absl::Status ParseCatalogRecord(std::string_view key, std::string_view value) {
  switch (static_cast<KeySpace>(key[0])) {
    case KeySpace::kStoreInfo:
      return ParseRecord<StoreInfo>(key, value).status();
    case KeySpace::kTenant:
      return ParseRecord<Tenant>(key, value).status();
    case KeySpace::kCorpus:
      return ParseRecord<Corpus>(key, value).status();
    case KeySpace::kDocument:
      return ParseRecord<Document>(key, value).status();
    case KeySpace::kUpload:
      return ParseRecord<Upload>(key, value).status();
    case KeySpace::kGeneration:
      return ParseRecord<Generation>(key, value).status();
    case KeySpace::kIngestIntent:
      return ParseRecord<IngestIntent>(key, value).status();
    case KeySpace::kOperation:
      return ParseRecord<Operation>(key, value).status();
    case KeySpace::kSession:
      return ParseRecord<Session>(key, value).status();
    case KeySpace::kTurn:
      return ParseRecord<Turn>(key, value).status();
    case KeySpace::kImport:
      return ParseRecord<Import>(key, value).status();
    case KeySpace::kKept:
      return ParseRecord<KeptRecord>(key, value).status();
    case KeySpace::kPublicNumber:
    case KeySpace::kCorpusNumbered:
    case KeySpace::kTenantCorpora:
    case KeySpace::kCorpusDocuments:
    case KeySpace::kCorpusGenerations:
    case KeySpace::kTenantOperations:
    case KeySpace::kCorpusOperations:
    case KeySpace::kRunningOperations:
    case KeySpace::kCorpusSessions:
    case KeySpace::kGenerationSessions:
    case KeySpace::kTenantIds:
    case KeySpace::kCorpusIds:
    case KeySpace::kDocumentIds:
    case KeySpace::kSessionIds:
      return ParseRecord<Link>(key, value).status();
    case KeySpace::kLineage:
      return ParseRecord<Lineage>(key, value).status();
    case KeySpace::kBlockRun:
      return ParseRecord<BlockRun>(key, value).status();
    case KeySpace::kLineageReference:
    case KeySpace::kDocumentReference:
      return ParseRecord<Reference>(key, value).status();
    case KeySpace::kReclaim:
      return ParseRecord<Reclaim>(key, value).status();
  }
  return absl::OkStatus();
}

absl::Status Missing(std::string_view what) { return absl::DataLossError(std::string(what)); }

bool IsLoss(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsNotFound(status);
}

}  // namespace

const char* DamageKindName(Damage::Kind kind) {
  switch (kind) {
    case Damage::Kind::kCatalog:
      return "catalog";
    case Damage::Kind::kDocument:
      return "document";
    case Damage::Kind::kLayout:
      return "layout";
    case Damage::Kind::kBlocks:
      return "blocks";
    case Damage::Kind::kHash:
      return "hash";
  }
  return "unknown";
}

absl::StatusOr<ScrubReport> Scrubber::Walk() {
  if (options_.corpus_uid != 0) {
    if (absl::Status status = WalkOneCorpus(); !status.ok()) return status;
    report_.complete = !stopped_;
    return std::move(report_);
  }
  for (auto step : {&Scrubber::WalkCatalog, &Scrubber::WalkHashes, &Scrubber::WalkCorpora,
                    &Scrubber::WalkLineages}) {
    if (absl::Status status = (this->*step)(); !status.ok()) return status;
    if (stopped_) break;
  }
  report_.complete = !stopped_;
  return std::move(report_);
}

bool Scrubber::Pace(uint64_t bytes) {
  ++report_.records;
  report_.bytes += bytes;
  for (;;) {
    if (options_.stop && options_.stop()) stopped_ = true;
    if (stopped_ || options_.bytes_per_second == 0) break;
    const auto due = begin_ + std::chrono::microseconds(static_cast<int64_t>(
                                  1e6 * static_cast<double>(report_.bytes) /
                                  static_cast<double>(options_.bytes_per_second)));
    const auto now = std::chrono::steady_clock::now();
    if (due <= now) break;
    std::this_thread::sleep_for(
        std::min<std::chrono::steady_clock::duration>(due - now, kLongestNap));
  }
  return !stopped_;
}

void Scrubber::Found(Damage::Kind kind, const absl::Status& status, Damage damage) {
  damage.kind = kind;
  damage.what = std::string(status.message());
  if (options_.found) options_.found(damage);
  report_.damages.push_back(std::move(damage));
}

absl::Status Scrubber::WalkCatalog() {
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, "", "\xff");
  for (; cursor->Valid(); cursor->Next()) {
    // A marker without a meaning keeps one memtable from being empty (rocksdb_store.cc).
    if (cursor->key().empty() || cursor->key()[0] == '\0') continue;
    const absl::Status status = ParseCatalogRecord(cursor->key(), cursor->value());
    if (absl::IsDataLoss(status)) {
      // Records are written whole: what the cursor saw was on the disk.
      Found(Damage::Kind::kCatalog, status, {});
    } else if (!status.ok()) {
      return status;
    }
    if (!Pace(cursor->key().size() + cursor->value().size())) return absl::OkStatus();
  }
  if (absl::IsDataLoss(cursor->status())) {
    Found(Damage::Kind::kCatalog, cursor->status(), {});
    return absl::OkStatus();
  }
  return cursor->status();
}

absl::Status Scrubber::WalkHashes() {
  auto cursor = store().NewCursor(ColumnFamily::kHash, "", std::string(16, '\xff'));
  for (; cursor->Valid(); cursor->Next()) {
    const absl::Status status = ParseRecord<HashEntry>(cursor->key(), cursor->value()).status();
    if (absl::IsDataLoss(status)) {
      Found(Damage::Kind::kHash, status, {.tenant_uid = KeyNumber64(cursor->key(), 0)});
    } else if (!status.ok()) {
      return status;
    }
    if (!Pace(cursor->key().size() + cursor->value().size())) return absl::OkStatus();
  }
  if (absl::IsDataLoss(cursor->status())) {
    Found(Damage::Kind::kHash, cursor->status(), {});
    return absl::OkStatus();
  }
  return cursor->status();
}

absl::Status Scrubber::WalkCorpora() {
  PageRequest tenant_page = {.size = kMaxPageSize};
  do {
    absl::StatusOr<Page<Tenant>> tenants = catalog_.ListTenants(tenant_page);
    if (absl::IsDataLoss(tenants.status())) return absl::OkStatus();  // WalkCatalog has told it
    if (!tenants.ok()) return tenants.status();
    for (const Tenant& tenant : tenants->items) {
      PageRequest page = {.size = kMaxPageSize};
      do {
        absl::StatusOr<Page<Corpus>> corpora = catalog_.ListCorpora(tenant.uid, page);
        if (absl::IsDataLoss(corpora.status())) break;
        if (!corpora.ok()) return corpora.status();
        for (const Corpus& corpus : corpora->items) {
          if (absl::Status status = WalkCorpus(corpus); !status.ok()) return status;
          if (stopped_) return absl::OkStatus();
        }
        page.token = corpora->next_token;
      } while (!page.token.empty());
    }
    tenant_page.token = tenants->next_token;
  } while (!tenant_page.token.empty());
  return absl::OkStatus();
}

absl::Status Scrubber::WalkCorpus(const Corpus& corpus) {
  const Damage here = {.tenant_uid = corpus.tenant_uid, .corpora = {corpus.uid}};
  // Deleted meanwhile, or damaged?
  const auto still_there = [&] {
    return !absl::IsNotFound(catalog_.GetCorpusByUid(corpus.uid).status());
  };
  if (absl::Status status = catalog_.GetCorpus(corpus.tenant_uid, corpus.id).status();
      IsLoss(status) && still_there()) {
    Found(Damage::Kind::kCatalog, status, here);
  }
  std::set<uint64_t> documents;
  PageRequest page = {.size = kMaxPageSize};
  do {
    absl::StatusOr<Page<Document>> found = catalog_.ListDocuments(corpus.uid, page);
    if (absl::IsDataLoss(found.status())) {
      Found(Damage::Kind::kCatalog, found.status(), here);
      break;
    }
    if (!found.ok()) return found.status();
    for (const Document& document : found->items) {
      documents.insert(document.uid);
      if (absl::Status status = catalog_.GetDocument(corpus.uid, document.id).status();
          IsLoss(status) && catalog_.GetDocumentByUid(document.uid).ok() && still_there()) {
        Found(Damage::Kind::kCatalog, status, here);
      }
    }
    page.token = found->next_token;
  } while (!page.token.empty());
  page = {.size = kMaxPageSize};
  do {
    absl::StatusOr<Page<Generation>> found = catalog_.ListGenerations(corpus.uid, page);
    if (absl::IsDataLoss(found.status())) {
      Found(Damage::Kind::kCatalog, found.status(), here);
      break;
    }
    if (!found.ok()) return found.status();
    for (const Generation& generation : found->items) {
      for (const GenerationDocument& document : generation.documents) {
        documents.insert(document.uid);
      }
      if (absl::Status status = WalkLayout(corpus, generation); !status.ok()) return status;
      if (stopped_) return absl::OkStatus();
    }
    page.token = found->next_token;
  } while (!page.token.empty());
  for (const uint64_t uid : documents) {
    if (absl::Status status = WalkDocument(corpus, uid); !status.ok()) return status;
    if (stopped_) return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status Scrubber::WalkDocument(const Corpus& corpus, uint64_t document_uid) {
  absl::StatusOr<Document> document = catalog_.GetDocumentByUid(document_uid);
  if (absl::IsNotFound(document.status())) return absl::OkStatus();  // deleted since
  const Damage here = {
      .tenant_uid = corpus.tenant_uid, .document_uid = document_uid, .corpora = {corpus.uid}};
  if (absl::IsDataLoss(document.status())) {
    Found(Damage::Kind::kCatalog, document.status(), here);
    return absl::OkStatus();
  }
  if (!document.ok()) return document.status();
  Sha256 sha256;
  for (uint64_t offset = 0; offset < document->byte_length; offset += kDocumentStep) {
    absl::StatusOr<std::string> bytes = catalog_.ReadDocument(*document, offset, kDocumentStep);
    if (absl::IsNotFound(bytes.status())) return absl::OkStatus();
    if (absl::IsDataLoss(bytes.status())) {
      Found(Damage::Kind::kDocument, bytes.status(), here);
      return absl::OkStatus();
    }
    if (!bytes.ok()) return bytes.status();
    sha256.Update(*bytes);
    if (!Pace(bytes->size())) return absl::OkStatus();
  }
  if (sha256.Finish() != document->sha256) {
    Found(
        Damage::Kind::kDocument,
        Missing(fmt::format("document \"{}\" of corpus \"{}\" has another SHA-256 than its record",
                            document->id, corpus.id)),
        here);
  }
  return absl::OkStatus();
}

absl::Status Scrubber::WalkLayout(const Corpus& corpus, const Generation& generation) {
  // A generation that is being rebuilt has its layout written anew.
  if (generation.residency == Residency::kPartial) return absl::OkStatus();
  std::set<std::pair<uint32_t, uint32_t>> parts;  // context, part
  constexpr size_t kContextOffset = 1 + sizeof(uint64_t);
  const std::string prefix = LayoutPrefix(generation.uid);
  auto cursor = store().NewCursor(ColumnFamily::kDocument, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    parts.emplace(KeyNumber32(cursor->key(), kContextOffset),
                  KeyNumber32(cursor->key(), kContextOffset + sizeof(uint32_t)));
  }
  absl::Status status = cursor->status();
  for (auto part = parts.begin(); status.ok() && part != parts.end(); ++part) {
    absl::StatusOr<std::string> bytes =
        catalog_.GetLayoutPart(generation.uid, part->first, part->second);
    status = bytes.status();
    if (status.ok() && !Pace(bytes->size())) return absl::OkStatus();
  }
  if (status.ok()) return absl::OkStatus();
  if (!IsLoss(status)) return status;
  absl::StatusOr<Generation> now = catalog_.GetGeneration(generation.uid);
  if (absl::IsNotFound(now.status()) || (now.ok() && now->residency == Residency::kPartial)) {
    return absl::OkStatus();  // it was deleted or is being rebuilt
  }
  Found(Damage::Kind::kLayout, status,
        {.tenant_uid = corpus.tenant_uid,
         .generation_uid = generation.uid,
         .corpora = {corpus.uid},
         .generations = {generation.uid}});
  return absl::OkStatus();
}

absl::Status Scrubber::WalkLineages() {
  const std::string prefix(1, static_cast<char>(KeySpace::kLineage));
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid() && !stopped_; cursor->Next()) {
    if (absl::Status status = WalkLineage(KeyNumber64(cursor->key(), 1)); !status.ok()) {
      return status;
    }
  }
  return absl::IsDataLoss(cursor->status()) ? absl::OkStatus() : cursor->status();
}

absl::Status Scrubber::WalkOneCorpus() {
  absl::StatusOr<Corpus> corpus = catalog_.GetCorpusByUid(options_.corpus_uid);
  if (!corpus.ok()) return corpus.status();
  if (absl::Status status = WalkCorpus(*corpus); !status.ok()) return status;
  std::set<uint64_t> lineages;
  PageRequest page = {.size = kMaxPageSize};
  do {
    absl::StatusOr<Page<Generation>> found = catalog_.ListGenerations(corpus->uid, page);
    if (absl::IsDataLoss(found.status())) break;  // WalkCorpus has told it
    if (!found.ok()) return found.status();
    for (const Generation& generation : found->items) {
      for (const GenerationContext& context : generation.contexts) {
        lineages.merge(LineagesOf(context.segments, 0));
      }
    }
    page.token = found->next_token;
  } while (!page.token.empty());
  page = {.size = kMaxPageSize};
  do {
    absl::StatusOr<Page<Session>> found = catalog_.ListSessions(corpus->uid, page);
    if (absl::IsDataLoss(found.status())) break;
    if (!found.ok()) return found.status();
    for (const Session& session : found->items) {
      lineages.merge(LineagesOf(session.segments, session.lineage));
    }
    page.token = found->next_token;
  } while (!page.token.empty());
  for (const uint64_t lineage : lineages) {
    if (absl::Status status = WalkLineage(lineage); !status.ok()) return status;
    if (stopped_) break;
  }
  return absl::OkStatus();
}

absl::Status Scrubber::WalkLineage(uint64_t uid) {
  const LineagePin pin(&state_, uid);
  absl::StatusOr<Lineage> lineage = ledger_.LoadLive(uid);
  if (IsLoss(lineage.status())) return absl::OkStatus();  // going, or told by WalkCatalog
  if (!lineage.ok()) return lineage.status();
  if (lineage->block_count() == 0) return absl::OkStatus();
  std::map<uint32_t, absl::Status> damaged;  // by block
  auto runs = ledger_.LoadRuns(uid, lineage->end_block);
  absl::Status directory = runs.status();
  if (runs.ok()) {
    uint32_t end = lineage->first_block;
    for (const auto& [first_block, run] : *runs) {
      end = first_block + static_cast<uint32_t>(run.blocks.size());
      absl::Status status = VerifyRun(uid, *lineage, first_block, run, &damaged);
      if (!status.ok()) return status;
      if (stopped_) return absl::OkStatus();
    }
    if (end != lineage->end_block) {
      directory = Missing(fmt::format("the directory of lineage {} ends at block {}, and it has {}",
                                      uid, end, lineage->end_block));
    }
  } else if (!absl::IsDataLoss(directory)) {
    return directory;
  }
  if (!directory.ok()) {
    for (uint32_t block = lineage->first_block; block < lineage->end_block; ++block) {
      damaged.emplace(block, directory);
    }
  }
  for (auto block = damaged.begin(); block != damaged.end();) {
    Damage damage = {.tenant_uid = lineage->tenant_uid,
                     .blocks = {.lineage = uid, .first_block = block->first}};
    const absl::Status what = block->second;
    for (uint32_t next = block->first; block != damaged.end() && block->first == next;
         ++block, ++next) {
      ++damage.blocks.block_count;
    }
    if (absl::Status status = AddHolders(uid, &damage); !status.ok()) return status;
    Found(Damage::Kind::kBlocks, what, std::move(damage));
  }
  return absl::OkStatus();
}

absl::Status Scrubber::VerifyRun(uint64_t uid, const Lineage& lineage, uint32_t first_block,
                                 const BlockRun& run, std::map<uint32_t, absl::Status>* damaged) {
  const auto count = static_cast<uint32_t>(run.blocks.size());
  // What does not fit the directory may have been replaced since the directory was read.
  const auto replaced = [&] {
    absl::StatusOr<BlockRun> now = LoadRecord<BlockRun>(store(), BlockRunKey(uid, first_block));
    return !now.ok() || *now != run || !ledger_.LoadLive(uid).ok();
  };
  const auto look = [&](RecordKind kind, const std::string& key, uint32_t position, uint32_t first,
                        uint32_t end) -> absl::Status {
    absl::Status status = VerifyRecord(kind, key, lineage, run, position);
    if (status.ok()) return status;
    if (!absl::IsDataLoss(status)) return status;
    if (replaced()) return absl::OkStatus();  // the next walk meets it as it is then
    for (uint32_t block = first; block < end; ++block) damaged->emplace(block, status);
    return absl::OkStatus();
  };
  for (uint16_t layer = 0; layer < lineage.geometry.layers; ++layer) {
    for (uint32_t i = 0; i < count; ++i) {
      absl::Status status =
          look(RecordKind::kKv, KvKey(lineage.tenant_uid, uid, first_block + i, layer), i,
               first_block + i, first_block + i + 1);
      if (!status.ok() || stopped_) return status;
    }
    if (lineage.geometry.indexed[layer] == 0) continue;
    absl::Status status =
        look(RecordKind::kIndexBf16,
             IndexKey(lineage.tenant_uid, uid, RecordKind::kIndexBf16, first_block, layer),
             count - 1, first_block, first_block + count);
    if (!status.ok() || stopped_) return status;
  }
  return absl::OkStatus();
}

// `position`: of the block whose hash the record carries.
absl::Status Scrubber::VerifyRecord(RecordKind kind, const std::string& key, const Lineage& lineage,
                                    const BlockRun& run, uint32_t position) {
  const bool kv = kind == RecordKind::kKv;
  const ColumnFamily family = kv ? ColumnFamily::kKv : ColumnFamily::kIndexKeys;
  PinnedValue value;
  absl::Status status = store().Get(family, key, &value);
  if (absl::IsNotFound(status)) return DamagedRecord(kind, family, key, "missing");
  if (!status.ok()) return status;
  Pace(key.size() + value.view().size());
  absl::StatusOr<DataRecord> record = DataRecord::Open(kind, family, key, value.view());
  if (!record.ok()) return record.status();
  const DataHeader& header = record->header();
  if (header.commit_sequence != run.commit_sequence || header.hash != run.blocks[position].hash) {
    return DamagedRecord(kind, family, key, "is of another commit than the directory says");
  }
  const Geometry& geometry = lineage.geometry;
  size_t offset = 0;
  const size_t slices = kv ? geometry.kv_heads : run.blocks.size();
  for (size_t i = 0; i < slices && i < header.slices; ++i) {
    const size_t bytes = kv ? geometry.KvSliceBytes(run.blocks[position].tokens)
                            : geometry.IndexBytes(run.blocks[i].tokens);
    if (absl::Status slice = record->Slice(i, offset, bytes).status(); !slice.ok()) return slice;
    offset += bytes;
  }
  if (header.slices != slices || header.payload_bytes != offset) {
    return DamagedRecord(kind, family, key, "has another shape than its lineage");
  }
  return absl::OkStatus();
}

absl::Status Scrubber::AddHolders(uint64_t lineage, Damage* damage) const {
  constexpr size_t kHolderOffset = 1 + sizeof(uint64_t);
  const std::string prefix = ObjectKey(KeySpace::kLineageReference, lineage);
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  const auto covers = [&](std::span<const Segment> segments) {
    return std::any_of(segments.begin(), segments.end(), [&](const Segment& segment) {
      return segment.lineage == lineage && segment.first_block < damage->blocks.end_block() &&
             damage->blocks.first_block < segment.end_block();
    });
  };
  std::set<uint64_t> corpora;
  for (; cursor->Valid(); cursor->Next()) {
    const uint64_t uid = KeyNumber64(cursor->key(), kHolderOffset + 1);
    switch (static_cast<HolderKind>(cursor->key()[kHolderOffset])) {
      case HolderKind::kGeneration: {
        absl::StatusOr<Generation> generation = catalog_.GetGeneration(uid);
        if (!generation.ok()) break;
        for (const GenerationContext& context : generation->contexts) {
          if (!covers(context.segments)) continue;
          damage->generations.push_back(uid);
          corpora.insert(generation->corpus_uid);
          break;
        }
        break;
      }
      case HolderKind::kSession: {
        absl::StatusOr<Session> session = catalog_.GetSessionByUid(uid);
        if (!session.ok() || !covers(session->segments)) break;
        damage->sessions.push_back(uid);
        corpora.insert(session->corpus_uid);
        break;
      }
      case HolderKind::kIngestIntent: {
        absl::StatusOr<IngestIntent> intent = catalog_.GetIngest(uid);
        if (intent.ok()) corpora.insert(intent->corpus_uid);
        break;
      }
      case HolderKind::kImport:
        break;  // of no corpus yet: what does not verify is not published
    }
  }
  damage->corpora.assign(corpora.begin(), corpora.end());
  return absl::IsDataLoss(cursor->status()) ? absl::OkStatus() : cursor->status();
}

}  // namespace lectern::storage
