#include "storage/corpus_import.h"

#include <algorithm>

#define XXH_STATIC_LINKING_ONLY  // the streaming state as a member
#include <xxhash.h>

#include "storage/fail_point.h"

namespace lectern::storage {
namespace {

std::vector<Import::Object>::iterator FindObject(std::vector<Import::Object>& objects,
                                                 uint64_t source) {
  return std::find_if(objects.begin(), objects.end(),
                      [&](const Import::Object& object) { return object.source == source; });
}

}  // namespace

absl::Status OutOfPlace(const TransferRecord& record, std::string_view what) {
  return absl::DataLossError(fmt::format("a record of the family {} came where it cannot be: {}",
                                         ColumnFamilyName(record.family), what));
}

// One generation's layout, in the order of its keys.
class StoredCorpusImport::IncomingLayout {
 public:
  IncomingLayout(uint64_t source, uint64_t uid) : source_(source), uid_(uid) {
    XXH3_64bits_reset(&state_);
  }
  ~IncomingLayout() = default;
  uint64_t source() const { return source_; }
  uint64_t uid() const { return uid_; }

  // Whether `piece` follows what came before, and its part is whole where it ends.
  bool Take(uint32_t context, uint32_t part, uint32_t piece, std::string_view payload) {
    Decoder decoder(payload);
    const uint64_t part_bytes = decoder.Varint();
    const uint64_t checksum = decoder.Fixed64();
    if (!decoder.ok()) return false;
    const std::string_view bytes = payload.substr(payload.size() - decoder.remaining());
    if (piece == 0) {
      if (!whole_) return false;
      if (begun_ && std::pair(context, part) <= std::pair(context_, part_)) return false;
      begun_ = true;
      context_ = context;
      part_ = part;
      next_piece_ = 0;
      taken_ = 0;
      part_bytes_ = part_bytes;
      checksum_ = checksum;
      XXH3_64bits_reset(&state_);
    } else if (whole_ || context != context_ || part != part_) {
      return false;
    }
    if (piece != next_piece_ || part_bytes != part_bytes_ || checksum != checksum_) return false;
    if (bytes.size() != std::min<uint64_t>(kPieceBytes, part_bytes_ - taken_)) return false;
    ++next_piece_;
    taken_ += bytes.size();
    XXH3_64bits_update(&state_, bytes.data(), bytes.size());
    whole_ = taken_ == part_bytes_;
    return !whole_ || XXH3_64bits_digest(&state_) == checksum_;
  }
  bool whole() const { return whole_; }

 private:
  const uint64_t source_;
  const uint64_t uid_;
  bool begun_ = false;
  bool whole_ = true;
  uint32_t context_ = 0;
  uint32_t part_ = 0;
  uint32_t next_piece_ = 0;
  uint64_t taken_ = 0;
  uint64_t part_bytes_ = 0;
  uint64_t checksum_ = 0;
  XXH3_state_t state_;
};

StoredCorpusImport::StoredCorpusImport(StoreState* state, LineageLedger* ledger,
                                       const CatalogStore* catalog, Hashes hashes)
    : state_(state), ledger_(ledger), catalog_(catalog), hashes_(std::move(hashes)) {}

StoredCorpusImport::~StoredCorpusImport() = default;

absl::StatusOr<std::unique_ptr<CorpusImport>> StoredCorpusImport::Open(
    StoreState* state, LineageLedger* ledger, const CatalogStore* catalog, uint64_t tenant_uid,
    std::string_view id, std::string_view source_store, uint64_t source_corpus, Hashes hashes) {
  std::unique_ptr<StoredCorpusImport> out(
      new StoredCorpusImport(state, ledger, catalog, std::move(hashes)));
  absl::StatusOr<std::vector<ImportState>> imports = List(*catalog);
  if (!imports.ok()) return imports.status();
  for (const ImportState& known : *imports) {
    if (known.tenant_uid != tenant_uid || known.id != id || known.source_store != source_store ||
        known.source_corpus != source_corpus || known.published) {
      continue;
    }
    absl::StatusOr<Import> import =
        LoadRecord<Import>(state->store(), ObjectKey(KeySpace::kImport, known.corpus_uid));
    if (!import.ok()) return import.status();
    out->import_ = *std::move(import);
    for (const Import::Object& object : out->import_.documents) {
      out->documents_[object.source] = object.uid;
    }
    for (const Import::Object& object : out->import_.generations) {
      out->generations_[object.source] = object.uid;
    }
    for (const Import::Blocks& blocks : out->import_.blocks) {
      out->lineages_[blocks.source] = blocks.lineage;
    }
    return std::unique_ptr<CorpusImport>(std::move(out));
  }
  Transaction transaction(state);
  if (absl::Status status = catalog->GetTenantByUid(tenant_uid).status(); !status.ok()) {
    return status;
  }
  out->import_.corpus_uid = transaction.NewUid();
  out->import_.tenant_uid = tenant_uid;
  out->import_.id = id;
  out->import_.source_store = source_store;
  out->import_.source_corpus = source_corpus;
  LECTERN_FAIL_POINT(kImportBegin);
  if (absl::Status status = out->Save(&transaction, Durability::kSynced); !status.ok()) {
    return status;
  }
  return std::unique_ptr<CorpusImport>(std::move(out));
}

absl::Status StoredCorpusImport::Save(Transaction* transaction, Durability durability) {
  PutRecord(&transaction->batch(), ObjectKey(KeySpace::kImport, import_.corpus_uid), import_);
  return transaction->Commit(durability);
}

absl::StatusOr<TransferHave> StoredCorpusImport::Have() const {
  TransferHave have;
  for (const Import::Object& document : import_.documents) {
    if (document.complete) have.documents.push_back(document.source);
  }
  for (const Import::Object& generation : import_.generations) {
    if (generation.complete) have.generations.push_back(generation.source);
  }
  for (const Import::Blocks& blocks : import_.blocks) {
    absl::StatusOr<Lineage> lineage = ledger_->LoadLive(blocks.lineage);
    if (!lineage.ok()) return lineage.status();
    const bool tail = lineage->has_partial_tail();
    const uint32_t end = lineage->end_block - (tail ? 1 : 0);
    if (!tail && end <= blocks.first_block) continue;
    have.blocks.push_back({blocks.source, end, tail ? lineage->tail_tokens : 0});
  }
  return have;
}

void StoredCorpusImport::BeginRound() {
  manifest_ = {};
  reserved_ = false;
  ended_ = false;
  hashed_ = false;
  block_hashes_.clear();
  document_ = {};
  layout_.reset();
  lineage_ = {};
}

absl::Status StoredCorpusImport::Add(const TransferRecord& record) {
  if (ended_ || record.key.empty()) return OutOfPlace(record, "the round has ended");
  switch (record.family) {
    case ColumnFamily::kCatalog: {
      const auto space = static_cast<KeySpace>(record.key[0]);
      if (space == KeySpace::kLineage) return AddLineage(record);
      if (space == KeySpace::kBlockRun) return AddRun(record);
      return AddCatalog(record);
    }
    case ColumnFamily::kDocument:
      if (record.key.size() < kSecondOffset) return OutOfPlace(record, "its key is too short");
      return record.key[0] == static_cast<char>(DocumentSpace::kLayout) ? AddPiece(record)
                                                                        : AddChunk(record);
    case ColumnFamily::kIndexKeys:
      return AddIndexKeys(record);
    case ColumnFamily::kKv:
      return AddKv(record);
    case ColumnFamily::kHash:
      break;
  }
  return OutOfPlace(record, "such records do not travel");
}

// ---- the catalog

template <typename T>
absl::StatusOr<T> StoredCorpusImport::ParseOwn(const TransferRecord& record, KeySpace space) const {
  absl::StatusOr<T> parsed = ParseRecord<T>(record.key, record.value);
  if (!parsed.ok()) return parsed.status();
  if (record.key != ObjectKey(space, parsed->uid))
    return OutOfPlace(record, "its key is another's");
  if constexpr (!std::is_same_v<T, Corpus>) {
    if (parsed->corpus_uid != import_.source_corpus) return OutOfPlace(record, "another corpus's");
  }
  return parsed;
}

absl::Status StoredCorpusImport::AddCatalog(const TransferRecord& record) {
  if (absl::Status status = TakeCatalog(record); !status.ok()) return status;
  manifest_.records[record.key] = record.value;
  return absl::OkStatus();
}

absl::Status StoredCorpusImport::TakeCatalog(const TransferRecord& record) {
  if (reserved_) return OutOfPlace(record, "the catalog has come already");
  const auto keep = [&](auto&& parsed, auto& into) -> absl::Status {
    if (!parsed.ok()) return parsed.status();
    const uint64_t uid = parsed->uid;
    into.insert_or_assign(uid, *std::forward<decltype(parsed)>(parsed));
    return absl::OkStatus();
  };
  const auto space = static_cast<KeySpace>(record.key[0]);
  if ((space == KeySpace::kCorpus) == manifest_.corpus.has_value()) {
    return OutOfPlace(record, "the corpus comes first, and once");
  }
  switch (space) {
    case KeySpace::kCorpus: {
      absl::StatusOr<Corpus> corpus = ParseOwn<Corpus>(record, space);
      if (!corpus.ok()) return corpus.status();
      if (corpus->uid != import_.source_corpus || corpus->id != import_.id) {
        return OutOfPlace(record, "another corpus");
      }
      manifest_.corpus = *std::move(corpus);
      return absl::OkStatus();
    }
    case KeySpace::kDocument:
      return keep(ParseOwn<Document>(record, space), manifest_.documents);
    case KeySpace::kGeneration:
      return keep(ParseOwn<Generation>(record, space), manifest_.generations);
    case KeySpace::kOperation:
      return keep(ParseOwn<Operation>(record, space), manifest_.operations);
    case KeySpace::kSession:
      return keep(ParseOwn<Session>(record, space), manifest_.sessions);
    case KeySpace::kTurn: {
      absl::StatusOr<Turn> turn = ParseRecord<Turn>(record.key, record.value);
      if (!turn.ok()) return turn.status();
      if (record.key.size() != kThirdOffset) return OutOfPlace(record, "its key is too short");
      const uint64_t session = KeyNumber64(record.key, kNumberOffset);
      if (!manifest_.sessions.contains(session)) return OutOfPlace(record, "of no session");
      manifest_.turns.emplace_back(session, *std::move(turn));
      return absl::OkStatus();
    }
    case KeySpace::kPublicNumber: {
      absl::StatusOr<Link> number = ParseRecord<Link>(record.key, record.value);
      if (!number.ok()) return number.status();
      if (record.key.size() != kSecondOffset) return OutOfPlace(record, "its key is too short");
      manifest_.numbers[KeyNumber64(record.key, kNumberOffset)] = number->uid;
      return absl::OkStatus();
    }
    default:
      return OutOfPlace(record, "such records do not travel");
  }
}

absl::Status StoredCorpusImport::Reserve() {
  if (reserved_) return absl::OkStatus();
  if (!manifest_.corpus) return absl::DataLossError("the round has brought no corpus");
  Transaction transaction(state_);
  for (const auto& [source, document] : manifest_.documents) {
    if (documents_.contains(source)) continue;
    documents_[source] = transaction.NewUid();
    import_.documents.push_back({source, documents_[source], document.byte_length == 0});
  }
  for (const auto& [source, generation] : manifest_.generations) {
    if (generations_.contains(source)) continue;
    generations_[source] = transaction.NewUid();
    import_.generations.push_back({source, generations_[source], false});
  }
  if (absl::Status status = ReserveBlocks(&transaction); !status.ok()) return status;
  if (absl::Status status = Save(&transaction, Durability::kSynced); !status.ok()) return status;
  reserved_ = true;
  return absl::OkStatus();
}

absl::Status StoredCorpusImport::ReserveBlocks(Transaction* transaction) {
  struct Needed {
    uint32_t first_block = 0;
    const Geometry* geometry = nullptr;
  };
  std::map<uint64_t, Needed> needed;
  const auto need = [&](uint64_t lineage, uint32_t first_block, const Geometry& geometry) {
    auto [found, inserted] = needed.try_emplace(lineage, Needed{first_block, &geometry});
    found->second.first_block = std::min(found->second.first_block, first_block);
  };
  for (const auto& [source, generation] : manifest_.generations) {
    for (const GenerationContext& context : generation.contexts) {
      for (const Segment& segment : context.segments) {
        need(segment.lineage, segment.first_block, generation.geometry);
      }
    }
  }
  for (const auto& [source, session] : manifest_.sessions) {
    const auto generation = manifest_.generations.find(session.generation_uid);
    if (generation == manifest_.generations.end()) {
      return absl::DataLossError(fmt::format("session \"{}\" is of no generation", session.id));
    }
    const Geometry& geometry = generation->second.geometry;
    need(session.lineage, session.lineage_first_block, geometry);
    for (const Segment& segment : session.segments) {
      need(segment.lineage, segment.first_block, geometry);
    }
  }
  for (const auto& [source, place] : needed) {
    const auto known =
        std::find_if(import_.blocks.begin(), import_.blocks.end(),
                     [&](const Import::Blocks& blocks) { return blocks.source == source; });
    if (known != import_.blocks.end() && known->first_block <= place.first_block) continue;
    if (known != import_.blocks.end()) {
      transaction->DropReference(KeySpace::kLineageReference, known->lineage, HolderKind::kImport,
                                 import_.corpus_uid);
      import_.blocks.erase(known);
    }
    const uint64_t lineage =
        ledger_->Reserve(transaction, import_.tenant_uid, *place.geometry, place.first_block);
    transaction->AddReference(KeySpace::kLineageReference, lineage, HolderKind::kImport,
                              import_.corpus_uid);
    import_.blocks.push_back({source, lineage, place.first_block});
    lineages_[source] = lineage;
  }
  return absl::OkStatus();
}

// ---- documents and layouts

absl::Status StoredCorpusImport::Close() {
  for (const auto close : {&StoredCorpusImport::EndDocument, &StoredCorpusImport::EndLayout,
                           &StoredCorpusImport::EndLineage}) {
    if (absl::Status status = (this->*close)(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status StoredCorpusImport::BeginDocument(uint64_t source_uid) {
  if (absl::Status status = Close(); !status.ok()) return status;
  const auto found = manifest_.documents.find(source_uid);
  if (found == manifest_.documents.end()) {
    return absl::DataLossError("bytes came of a document that the corpus does not have");
  }
  document_ = {&found->second, documents_[source_uid], 0, 0, std::make_unique<Sha256>()};
  return absl::OkStatus();
}

absl::Status StoredCorpusImport::EndDocument() {
  if (document_.document == nullptr) return absl::OkStatus();
  const IncomingDocument incoming = std::exchange(document_, {});
  if (incoming.bytes != incoming.document->byte_length ||
      incoming.sha256->Finish() != incoming.document->sha256) {
    return absl::DataLossError(fmt::format(
        "document \"{}\" came with other bytes than its record says", incoming.document->id));
  }
  FindObject(import_.documents, incoming.document->uid)->complete = true;
  Transaction transaction(state_);
  return Save(&transaction, Durability::kBuffered);
}

absl::Status StoredCorpusImport::AddChunk(const TransferRecord& record) {
  if (absl::Status status = Reserve(); !status.ok()) return status;
  constexpr size_t kKeyBytes = kThirdOffset + sizeof(uint32_t);
  if (record.key.size() != kKeyBytes ||
      KeyNumber64(record.key, kNumberOffset) != import_.source_corpus) {
    return OutOfPlace(record, "of another corpus");
  }
  absl::StatusOr<OpenedRecord> opened =
      OpenRecord(RecordKind::kDocumentChunk, ColumnFamily::kDocument, record.key, record.value);
  if (!opened.ok()) return opened.status();
  const uint64_t source_uid = KeyNumber64(record.key, kSecondOffset);
  if (document_.document == nullptr || document_.document->uid != source_uid) {
    if (absl::Status status = BeginDocument(source_uid); !status.ok()) return status;
  }
  if (KeyNumber32(record.key, kThirdOffset) != document_.next_chunk) {
    return OutOfPlace(record, "a piece of the document is missing");
  }
  std::string key = DocumentChunkKey(import_.corpus_uid, document_.uid, document_.next_chunk++);
  document_.bytes += opened->payload.size();
  document_.sha256->Update(opened->payload);
  Batch batch;
  std::string value =
      SealRecord(RecordKind::kDocumentChunk, ColumnFamily::kDocument, key, opened->payload);
  batch.Put(ColumnFamily::kDocument, std::move(key), std::move(value));
  LECTERN_FAIL_POINT(kImportPiece);
  return store().Write(batch, Durability::kBuffered);
}

absl::Status StoredCorpusImport::AddPiece(const TransferRecord& record) {
  if (absl::Status status = Reserve(); !status.ok()) return status;
  constexpr size_t kPartOffset = kSecondOffset + sizeof(uint32_t);
  constexpr size_t kPieceOffset = kPartOffset + sizeof(uint32_t);
  if (record.key.size() != kPieceOffset + sizeof(uint32_t)) {
    return OutOfPlace(record, "its key is too short");
  }
  absl::StatusOr<OpenedRecord> opened =
      OpenRecord(RecordKind::kLayoutPiece, ColumnFamily::kDocument, record.key, record.value);
  if (!opened.ok()) return opened.status();
  const uint64_t source_uid = KeyNumber64(record.key, kNumberOffset);
  if (layout_ == nullptr || layout_->source() != source_uid) {
    if (absl::Status status = Close(); !status.ok()) return status;
    if (!manifest_.generations.contains(source_uid)) {
      return OutOfPlace(record, "of a generation that the corpus does not have");
    }
    layout_ = std::make_unique<IncomingLayout>(source_uid, generations_[source_uid]);
  }
  const uint32_t context = KeyNumber32(record.key, kSecondOffset);
  const uint32_t part = KeyNumber32(record.key, kPartOffset);
  const uint32_t piece = KeyNumber32(record.key, kPieceOffset);
  if (!layout_->Take(context, part, piece, opened->payload)) {
    return OutOfPlace(record, "it does not follow the piece before it");
  }
  Batch batch;
  std::string key = LayoutPieceKey(layout_->uid(), context, part, piece);
  std::string value =
      SealRecord(RecordKind::kLayoutPiece, ColumnFamily::kDocument, key, opened->payload);
  batch.Put(ColumnFamily::kDocument, std::move(key), std::move(value));
  LECTERN_FAIL_POINT(kImportPiece);
  return store().Write(batch, Durability::kBuffered);
}

absl::Status StoredCorpusImport::EndLayout() {
  if (layout_ == nullptr) return absl::OkStatus();
  const std::unique_ptr<IncomingLayout> layout = std::move(layout_);
  if (!layout->whole()) return absl::DataLossError("a layout part came without its end");
  FindObject(import_.generations, layout->source())->complete = true;
  Transaction transaction(state_);
  return Save(&transaction, Durability::kBuffered);
}

absl::Status StoredCorpusImport::EndRound() {
  if (absl::Status status = Reserve(); !status.ok()) return status;
  if (absl::Status status = Close(); !status.ok()) return status;
  // Documents and layouts came buffered.
  Transaction transaction(state_);
  if (absl::Status status = Save(&transaction, Durability::kSynced); !status.ok()) return status;
  ended_ = true;
  return absl::OkStatus();
}

}  // namespace lectern::storage
