// How fast 512 MB of 64 KiB records are written durably and read back, by every way RocksDB offers
// and by plain files, in one run on one disk. Durable means: after each commit of 32 MiB the bytes
// survive power loss.
//   storage_bench <directory on the disk to measure> [json file]
// Ways: plain files (one per commit: write, fsync, fsync of the directory); the write-ahead log
// (a synced batch per commit); the log with BlobDB; table files ingested (KeyValueStore::BulkLoad);
// and the product's own path over the latter (Catalog::CommitIngestBlocks with checksums, directory
// and hashes). Medians of three rounds, in which the ways take turns.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include "storage/key_value_store.h"
#include "storage/rocksdb_store.h"
#include "storage/store.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;

constexpr size_t kRecordBytes = 64 << 10;
constexpr size_t kRecords = 8192;
constexpr size_t kRecordsPerCommit = 512;
constexpr size_t kTotalBytes = kRecordBytes * kRecords;
constexpr int kRounds = 3;

// The bundled model's shape, of which one block and layer is 64 KiB of K/V.
constexpr uint16_t kLayers = 8;
constexpr uint32_t kBlocksPerCommit = kRecordsPerCommit / kLayers;

void Check(bool ok, const std::string& what) {
  if (!ok) throw std::runtime_error(what);
}
void Check(const absl::Status& status) { Check(status.ok(), status.ToString()); }
void Check(const rocksdb::Status& status) { Check(status.ok(), status.ToString()); }
template <typename T>
T Take(absl::StatusOr<T> value) {
  Check(value.status());
  return *std::move(value);
}

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double MegabytesPerSecond(double seconds) { return kTotalBytes / 1e6 / seconds; }

// Bytes this process has sent to the disk so far.
uint64_t BytesToDisk() {
  std::ifstream io("/proc/self/io");
  std::string name;
  uint64_t value = 0;
  while (io >> name >> value) {
    if (name == "write_bytes:") return value;
  }
  return 0;
}

// The page cache forgets every file below `directory`.
void DropPages(const std::string& directory) {
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    const int file = open(entry.path().c_str(), O_RDONLY);
    if (file < 0) continue;
    fdatasync(file);
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    close(file);
  }
}

std::string Key(size_t record) { return fmt::format("record{:08}", record); }

// What a way must do. Reads return bytes through memory of the caller.
class Way {
 public:
  virtual ~Way() = default;
  virtual void Write(size_t first_record) = 0;  // one commit, durable
  virtual void Settle() {}                      // flushes and compactions that were put off
  virtual void Scan(char* out) = 0;             // all records in order
  virtual void Get(size_t record, char* out) = 0;
};

// Incompressible bytes, the same for every way.
const std::string& Payload() {
  static const std::string* const payload = [] {
    auto* bytes = new std::string(kRecordBytes * kRecordsPerCommit, '\0');
    std::mt19937_64 random(1);
    for (size_t i = 0; i < bytes->size(); i += 8) {
      const uint64_t word = random();
      std::memcpy(bytes->data() + i, &word, 8);
    }
    return bytes;
  }();
  return *payload;
}

std::string_view Record(size_t record) {
  return std::string_view(Payload()).substr(record % kRecordsPerCommit * kRecordBytes,
                                            kRecordBytes);
}

class PlainFiles final : public Way {
 public:
  explicit PlainFiles(std::string directory) : directory_(std::move(directory)) {
    fs::create_directories(directory_);
  }
  ~PlainFiles() override {
    for (const int file : files_) close(file);
  }

  void Write(size_t first_record) override {
    const std::string path = fmt::format("{}/{:06}", directory_, first_record);
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
    Check(file >= 0, path);
    for (size_t i = first_record; i < first_record + kRecordsPerCommit; ++i) {
      Check(write(file, Record(i).data(), kRecordBytes) == static_cast<ssize_t>(kRecordBytes),
            path);
    }
    Check(fsync(file) == 0, path);
    const int directory = open(directory_.c_str(), O_RDONLY | O_DIRECTORY);
    Check(fsync(directory) == 0, directory_);
    close(directory);
    files_.push_back(file);
  }

  void Scan(char* out) override {
    for (const int file : files_) posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (size_t i = 0; i < kRecords; ++i) Get(i, out);
    for (const int file : files_) posix_fadvise(file, 0, 0, POSIX_FADV_NORMAL);
  }

  void Get(size_t record, char* out) override {
    const auto offset = static_cast<off_t>(record % kRecordsPerCommit * kRecordBytes);
    Check(pread(files_[record / kRecordsPerCommit], out, kRecordBytes, offset) ==
              static_cast<ssize_t>(kRecordBytes),
          "pread");
  }

 private:
  const std::string directory_;
  std::vector<int> files_;
};

// Through our interface: in bulk, or as synced batches.
class Interface final : public Way {
 public:
  Interface(const std::string& directory, bool bulk) : bulk_(bulk) {
    fs::create_directories(directory);
    RocksDbOptions options;
    options.directory = directory + "/db";
    options.load_directory = directory + "/load";
    store_ = Take(OpenRocksDbStore(options));
  }

  void Write(size_t first_record) override { WriteRecords(first_record, kRecordsPerCommit); }

  void WriteRecords(size_t first_record, size_t count) {
    if (bulk_) {
      std::unique_ptr<BulkLoad> load = Take(store_->NewBulkLoad());
      for (size_t i = first_record; i < first_record + count; ++i) {
        Check(load->Add(ColumnFamily::kKv, Key(i), Record(i)));
      }
      Check(load->Commit());
      // A bulk commit becomes visible by a small batch after it.
    }
    Batch batch;
    batch.Put(ColumnFamily::kCatalog, "visible", std::to_string(first_record));
    for (size_t i = first_record; !bulk_ && i < first_record + count; ++i) {
      batch.Put(ColumnFamily::kKv, Key(i), std::string(Record(i)));
    }
    Check(store_->Write(batch, Durability::kSynced));
  }

  void Settle() override {
    Check(store_->Flush());
    // Compacts what lies in overlapping files; drops nothing, because nothing was deleted.
    if (!bulk_) Check(store_->ReclaimRange(ColumnFamily::kKv, "a", "b"));
  }

  void Scan(char* out) override {
    auto cursor = store_->NewCursor(ColumnFamily::kKv, "r", "s", 4 << 20);
    size_t records = 0;
    for (; cursor->Valid(); cursor->Next(), ++records) {
      std::memcpy(out, cursor->value().data(), kRecordBytes);
    }
    Check(records == kRecords, "scan");
  }

  void Get(size_t record, char* out) override {
    PinnedValue value;
    Check(store_->Get(ColumnFamily::kKv, Key(record), &value));
    std::memcpy(out, value.view().data(), kRecordBytes);
  }

 private:
  const bool bulk_;
  std::unique_ptr<KeyValueStore> store_;
};

// RocksDB itself with values in blob files.
class Blobs final : public Way {
 public:
  explicit Blobs(const std::string& directory) {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.enable_blob_files = true;
    options.min_blob_size = 4096;
    options.compression = rocksdb::kNoCompression;
    options.bytes_per_sync = 1 << 20;
    options.wal_bytes_per_sync = 1 << 20;
    rocksdb::DB* db = nullptr;
    Check(rocksdb::DB::Open(options, directory, &db));
    db_.reset(db);
  }

  void Write(size_t first_record) override {
    rocksdb::WriteBatch batch;
    for (size_t i = first_record; i < first_record + kRecordsPerCommit; ++i) {
      Check(batch.Put(Key(i), rocksdb::Slice(Record(i).data(), kRecordBytes)));
    }
    rocksdb::WriteOptions options;
    options.sync = true;
    Check(db_->Write(options, &batch));
  }

  void Settle() override { Check(db_->Flush(rocksdb::FlushOptions())); }

  void Scan(char* out) override {
    rocksdb::ReadOptions options;
    options.readahead_size = 4 << 20;
    std::unique_ptr<rocksdb::Iterator> iterator(db_->NewIterator(options));
    size_t records = 0;
    for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next(), ++records) {
      std::memcpy(out, iterator->value().data(), kRecordBytes);
    }
    Check(records == kRecords, "scan");
  }

  void Get(size_t record, char* out) override {
    rocksdb::PinnableSlice value;
    Check(db_->Get(rocksdb::ReadOptions(), db_->DefaultColumnFamily(), Key(record), &value));
    std::memcpy(out, value.data(), kRecordBytes);
  }

 private:
  std::unique_ptr<rocksdb::DB> db_;
};

// The product's path: blocks of an ingest, verified when read.
class Product final : public Way {
 public:
  explicit Product(const std::string& directory) {
    geometry_.layers = kLayers;
    geometry_.kv_heads = 2;
    geometry_.head_dim = 64;
    geometry_.index_dim = 0;  // K/V only, so that bytes compare
    geometry_.indexed.assign(kLayers, 0);
    Check(geometry_.KvBytes(kBlockTokens) == kRecordBytes, "geometry");
    StoreOptions options;
    options.directory = directory;
    options.reader_threads = 1;
    store_ = Take(Store::Open(options));
    tenant_ = Take(store_->catalog().GetTenant(kDefaultTenantId)).uid;
    const Corpus corpus = Take(store_->catalog().CreateCorpus(tenant_, {"bench", "", {}}, 0));
    operation_ = Take(store_->catalog().CreateOperation(corpus.uid, {}, 0)).uid;
    IngestRequest request;
    request.operation_uid = operation_;
    request.geometry = geometry_;
    request.hashes.resize(1);
    Check(store_->catalog().BeginIngest(request, 0).status());
  }

  void Write(size_t first_record) override {
    std::vector<std::vector<const std::byte*>> pages(kBlocksPerCommit);
    std::vector<BlockInput> blocks(kBlocksPerCommit);
    const auto first_block = static_cast<uint32_t>(first_record / kLayers);
    for (uint32_t i = 0; i < kBlocksPerCommit; ++i) {
      for (size_t layer = 0; layer < kLayers; ++layer) {
        pages[i].push_back(reinterpret_cast<const std::byte*>(Record(i * kLayers + layer).data()));
      }
      blocks[i].tokens = kBlockTokens;
      const uint32_t number = first_block + i;
      std::memcpy(blocks[i].hash.data(), &number, sizeof(number));
      blocks[i].kv = pages[i];
    }
    BlockBatch batch;
    batch.first_block = first_block;
    batch.blocks = blocks;
    const IngestContext context =
        Take(store_->catalog().CommitIngestBlocks(operation_, 0, batch)).contexts[0];
    segment_ = {context.lineage, 0, context.end_block};
  }

  void Settle() override {
    Check(store_->Flush());
    reader_ = Take(store_->blocks().OpenContext(tenant_, std::span(&segment_, 1),
                                                uint64_t{segment_.block_count} * kBlockTokens,
                                                geometry_));
  }

  void Scan(char* out) override {
    for (size_t i = 0; i < kRecords; ++i) Get(i, out);
  }

  void Get(size_t record, char* out) override {
    KvRequest request;
    request.block = static_cast<uint32_t>(record / kLayers);
    request.layer = static_cast<uint16_t>(record % kLayers);
    request.out = reinterpret_cast<std::byte*>(out);
    Check(reader_->ReadKv(request));
  }

  double VerifyShare() const {
    const BlockCounters counters = store_->blocks().Counters();
    return static_cast<double>(counters.verify_nanoseconds) /
           static_cast<double>(counters.read_nanoseconds);
  }

 private:
  Geometry geometry_;
  std::unique_ptr<Store> store_;
  uint64_t tenant_ = 0;
  uint64_t operation_ = 0;
  Segment segment_;
  std::unique_ptr<ContextReader> reader_;
};

struct Figures {
  std::vector<double> write, settled, amplification, scan_cold, scan_warm, get_cold, get_warm;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Measure(Way* way, const std::string& directory, Figures* figures) {
  std::vector<char> out(kRecordBytes);
  const uint64_t before = BytesToDisk();
  const double written = Seconds([&] {
    for (size_t i = 0; i < kRecords; i += kRecordsPerCommit) way->Write(i);
  });
  const double settled = written + Seconds([&] { way->Settle(); });
  figures->write.push_back(MegabytesPerSecond(written));
  figures->settled.push_back(MegabytesPerSecond(settled));
  figures->amplification.push_back(static_cast<double>(BytesToDisk() - before) / kTotalBytes);

  std::vector<size_t> order(kRecords);
  for (size_t i = 0; i < kRecords; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), std::mt19937_64(2));
  const auto scan = [&] { way->Scan(out.data()); };
  const auto get = [&] {
    for (const size_t record : order) way->Get(record, out.data());
  };
  DropPages(directory);
  figures->scan_cold.push_back(MegabytesPerSecond(Seconds(scan)));
  figures->scan_warm.push_back(MegabytesPerSecond(Seconds(scan)));
  DropPages(directory);
  figures->get_cold.push_back(MegabytesPerSecond(Seconds(get)));
  figures->get_warm.push_back(MegabytesPerSecond(Seconds(get)));
}

// Where a commit through the log stops being quicker than one in bulk: the product's threshold.
std::string MeasureCommitSizes(const std::string& scratch) {
  constexpr int kCommits = 9;
  std::string json = "  \"commit_ms\": {";
  fmt::print("\nmilliseconds of one commit\n{:>8} {:>8} {:>8}\n", "MiB", "log", "bulk");
  for (size_t records = 16; records <= kRecordsPerCommit; records *= 2) {
    double milliseconds[2];
    for (const bool bulk : {false, true}) {
      const std::string directory = scratch + "/storage_bench_commit";
      fs::remove_all(directory);
      Interface way(directory, bulk);
      std::vector<double> seconds;
      for (int i = 0; i < kCommits; ++i) {
        seconds.push_back(
            Seconds([&] { way.WriteRecords(static_cast<size_t>(i) * records, records); }));
      }
      milliseconds[bulk ? 1 : 0] = Median(seconds) * 1e3;
    }
    const size_t mib = records * kRecordBytes >> 20;
    fmt::print("{:>8} {:>8.1f} {:>8.1f}\n", mib, milliseconds[0], milliseconds[1]);
    json += fmt::format("{}\"{}_mib\": {{\"log\": {:.2f}, \"bulk\": {:.2f}}}",
                        records == 16 ? "" : ", ", mib, milliseconds[0], milliseconds[1]);
  }
  fs::remove_all(scratch + "/storage_bench_commit");
  return json + "},\n";
}

int Run(const std::string& scratch, const char* json_path) {
  const std::vector<std::pair<std::string, std::function<std::unique_ptr<Way>(const std::string&)>>>
      ways = {
          {"plain_files", [](const std::string& at) { return std::make_unique<PlainFiles>(at); }},
          {"log", [](const std::string& at) { return std::make_unique<Interface>(at, false); }},
          {"blobs", [](const std::string& at) { return std::make_unique<Blobs>(at); }},
          {"ingested", [](const std::string& at) { return std::make_unique<Interface>(at, true); }},
          {"product", [](const std::string& at) { return std::make_unique<Product>(at); }},
      };
  std::map<std::string, Figures> figures;
  double verify_share = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (const auto& [name, make] : ways) {
      const std::string directory = fmt::format("{}/storage_bench_{}", scratch, name);
      fs::remove_all(directory);
      {
        const std::unique_ptr<Way> way = make(directory);
        Measure(way.get(), directory, &figures[name]);
        if (auto* product = dynamic_cast<Product*>(way.get()))
          verify_share = product->VerifyShare();
      }
      fs::remove_all(directory);
      sync();  // nothing of this way is left to be written in the next one's time
    }
  }
  fmt::print("{} MB of {} KiB records, commits of {} MiB; MB/s, medians of {} rounds\n",
             kTotalBytes / 1'000'000, kRecordBytes >> 10, kRecordBytes * kRecordsPerCommit >> 20,
             kRounds);
  fmt::print("{:12} {:>8} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10}\n", "", "write", "settled",
             "disk/data", "scan cold", "scan warm", "get cold", "get warm");
  std::string json = "{\n";
  for (const auto& [name, make] : ways) {
    const Figures& f = figures[name];
    fmt::print("{:12} {:8.0f} {:8.0f} {:10.2f} {:10.0f} {:10.0f} {:10.0f} {:10.0f}\n", name,
               Median(f.write), Median(f.settled), Median(f.amplification), Median(f.scan_cold),
               Median(f.scan_warm), Median(f.get_cold), Median(f.get_warm));
    json += fmt::format(
        "  \"{}\": {{\"write\": {:.1f}, \"settled\": {:.1f}, \"disk_bytes_over_data\": {:.3f}, "
        "\"scan_cold\": {:.1f}, \"scan_warm\": {:.1f}, \"get_cold\": {:.1f}, \"get_warm\": "
        "{:.1f}}},\n",
        name, Median(f.write), Median(f.settled), Median(f.amplification), Median(f.scan_cold),
        Median(f.scan_warm), Median(f.get_cold), Median(f.get_warm));
  }
  fmt::print("share of the product's reading time spent on verification: {:.3f}\n", verify_share);
  json += MeasureCommitSizes(scratch);
  json += fmt::format("  \"verify_share\": {:.4f},\n  \"unit\": \"MB/s\"\n}}\n", verify_share);
  if (json_path != nullptr) std::ofstream(json_path) << json;
  return 0;
}

}  // namespace
}  // namespace lectern::storage

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: storage_bench <directory on the disk to measure> [json file]\n");
    return 2;
  }
  try {
    return lectern::storage::Run(argv[1], argc > 2 ? argv[2] : nullptr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "storage_bench: %s\n", error.what());
    return 1;
  }
}
