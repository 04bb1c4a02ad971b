#include "engine/text/source_map.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/text/varint.h"

namespace lectern::engine {
namespace {

constexpr uint8_t kFormatVersion = 1;
// No real position comes near; sums of two stay in 64 bits.
constexpr uint64_t kMaxPosition = uint64_t{1} << 60;

absl::Status Corrupt(std::string_view what) {
  return Error(
      absl::StatusCode::kDataLoss, reason::kStoredBytesCorrupt,
      fmt::format("stored source map is corrupt: {}; delete the document and upload it again",
                  what));
}

}  // namespace

// Walks the records. At any time `record` is the current one, beginning at (text, source).
struct SourceMap::Cursor {
  std::string_view records;
  uint64_t text = 0;
  uint64_t source = 0;
  Record record;
  size_t next_offset = 0;
  bool valid = false;

  bool Read() {
    VarintReader reader(records, next_offset);
    valid = reader.Read(&record.linear) && reader.Read(&record.unit_text) &&
            reader.ReadSigned(&record.unit_source);
    next_offset = reader.offset();
    return valid;
  }

  bool Advance() {
    const uint64_t next_text = text_end();
    const uint64_t next_source = source + record.linear + record.unit_source;
    text = next_text;
    source = next_source;
    return Read();
  }

  uint64_t text_end() const { return text + record.linear + record.unit_text; }
  uint64_t unit_text_begin() const { return text + record.linear; }
  uint64_t unit_source_begin() const { return source + record.linear; }
  uint64_t unit_source_end() const { return unit_source_begin() + record.unit_source; }
};

SourceMap SourceMap::Identity(uint64_t size) {
  Builder builder;
  if (size > 0) builder.AddLinear(0, size);
  return std::move(builder).Build();
}

SourceMap::Cursor SourceMap::Seek(uint64_t text_offset) const {
  const auto after = std::upper_bound(
      stretches_.begin(), stretches_.end(), text_offset,
      [](uint64_t offset, const Stretch& stretch) { return offset < stretch.text; });
  LECTERN_CHECK(after != stretches_.begin());
  const Stretch& stretch = *std::prev(after);
  Cursor cursor{.records = records_,
                .text = stretch.text,
                .source = stretch.source,
                .record = {},
                .next_offset = stretch.record_offset};
  cursor.Read();
  while (cursor.valid && cursor.text_end() <= text_offset && cursor.Advance()) {
  }
  LECTERN_CHECK(cursor.valid);
  return cursor;
}

SourceRange SourceMap::Map(uint64_t begin, uint64_t end) const {
  LECTERN_CHECK(begin <= end && end <= text_size_);
  SourceRange range;
  if (text_size_ == 0) return range;
  const bool empty = begin == end;
  const bool at_end = begin == text_size_;
  // An empty range maps like its next byte's beginning; at the end of the text, like the last
  // byte's end.
  const uint64_t first = at_end ? text_size_ - 1 : begin;
  const uint64_t last = empty ? first : end - 1;
  Cursor cursor = Seek(first);
  const auto begin_of = [](const Cursor& c, uint64_t offset) {
    return offset < c.unit_text_begin() ? c.source + (offset - c.text) : c.unit_source_begin();
  };
  const auto end_of = [](const Cursor& c, uint64_t offset) {
    return offset < c.unit_text_begin() ? c.source + (offset - c.text) + 1 : c.unit_source_end();
  };
  range.begin = begin_of(cursor, first);
  if (!has_jumps_) {
    range.end = end_of(last < cursor.text_end() ? cursor : Seek(last), last);
  } else {
    range.end = end_of(cursor, std::min(last, cursor.text_end() - 1));
    while (last >= cursor.text_end() && cursor.Advance()) {
      if (cursor.text_end() == cursor.text) continue;
      // Within a record positions only grow: its first byte has the lowest, its last the highest.
      range.begin = std::min(range.begin, begin_of(cursor, cursor.text));
      range.end = std::max(range.end, end_of(cursor, std::min(last, cursor.text_end() - 1)));
    }
  }
  if (empty && at_end) range.begin = range.end;
  if (empty && !at_end) range.end = range.begin;
  if (paged()) {
    range.first_page = PageOf(first);
    range.last_page = PageOf(last);
  }
  return range;
}

uint32_t SourceMap::PageOf(uint64_t offset) const {
  const auto after = std::upper_bound(page_text_begins_.begin(), page_text_begins_.end(), offset);
  return static_cast<uint32_t>(after - page_text_begins_.begin());
}

SourceMap SourceMap::Compose(const SourceMap& inner) const {
  Builder out;
  Cursor cursor{.records = records_};
  if (!records_.empty()) cursor.Read();
  for (; cursor.valid && cursor.text < text_size_; cursor.Advance()) {
    uint64_t middle = cursor.source;
    const uint64_t middle_end = cursor.source + cursor.record.linear;
    if (middle < middle_end) {
      LECTERN_CHECK(middle_end <= inner.text_size_);
      Cursor walk = inner.Seek(middle);
      while (middle < middle_end) {
        if (middle < walk.unit_text_begin()) {
          const uint64_t length = std::min(middle_end, walk.unit_text_begin()) - middle;
          out.AddLinear(walk.source + (middle - walk.text), length);
          middle += length;
        } else if (middle < walk.text_end()) {
          const uint64_t length = std::min(middle_end, walk.text_end()) - middle;
          out.AddUnit(length, walk.unit_source_begin(), walk.unit_source_end());
          middle += length;
        } else {
          LECTERN_CHECK(walk.Advance());
        }
      }
    }
    if (cursor.record.unit_text > 0) {
      const SourceRange range = inner.Map(cursor.unit_source_begin(), cursor.unit_source_end());
      out.AddUnit(cursor.record.unit_text, range.begin, range.end);
    }
  }
  SourceMap composed = std::move(out).Build();
  composed.page_text_begins_ = page_text_begins_;
  return composed;
}

// Serialised: version byte; varint count of pages, their text begins as differences; the records.
std::string SourceMap::Serialize() const {
  std::string out(1, static_cast<char>(kFormatVersion));
  AppendVarint(page_text_begins_.size(), &out);
  uint64_t previous = 0;
  for (const uint64_t begin : page_text_begins_) {
    AppendVarint(begin - previous, &out);
    previous = begin;
  }
  return out + records_;
}

absl::StatusOr<SourceMap> SourceMap::Parse(std::string_view bytes) {
  if (bytes.empty()) return Corrupt("no bytes");
  const auto version = static_cast<uint8_t>(bytes[0]);
  if (version > kFormatVersion) {
    return Error(
        absl::StatusCode::kFailedPrecondition, reason::kStoredFormatNewer,
        fmt::format("stored source map has format {}, this program reads up to {}; start the newer "
                    "version of Lectern on this data directory",
                    version, kFormatVersion));
  }
  if (version == 0) return Corrupt("format 0");
  SourceMap map;
  VarintReader reader(bytes, 1);
  uint64_t pages = 0;
  if (!reader.Read(&pages) || pages > bytes.size()) return Corrupt("page count");
  uint64_t previous = 0;
  for (uint64_t i = 0; i < pages; ++i) {
    uint64_t step = 0;
    if (!reader.Read(&step) || step > kMaxPosition || previous + step > kMaxPosition) {
      return Corrupt("page position");
    }
    map.page_text_begins_.push_back(previous += step);
  }
  map.records_ = reader.rest();
  LECTERN_RETURN_IF_ERROR(map.Index());
  if (previous > map.text_size_) return Corrupt("page after the end");
  return map;
}

absl::Status SourceMap::Index() {
  stretches_.clear();
  has_jumps_ = false;
  text_size_ = 0;
  uint64_t source = 0;
  VarintReader reader(records_);
  for (uint64_t i = 0; !reader.done(); ++i) {
    if (i % kRecordsPerStretch == 0) stretches_.push_back({text_size_, source, reader.offset()});
    Record record;
    if (!reader.Read(&record.linear) || !reader.Read(&record.unit_text) ||
        !reader.ReadSigned(&record.unit_source)) {
      return Corrupt("cut off in a record");
    }
    const bool step = record.unit_text == 0;
    if (record.linear > kMaxPosition || record.unit_text > kMaxPosition ||
        record.unit_source > static_cast<int64_t>(kMaxPosition) ||
        record.unit_source < -static_cast<int64_t>(kMaxPosition) ||
        (!step && record.unit_source < 0)) {
      return Corrupt("a record out of range");
    }
    text_size_ += record.linear + record.unit_text;
    source += record.linear;
    if (record.unit_source < 0 && source < static_cast<uint64_t>(-record.unit_source)) {
      return Corrupt("a source position below zero");
    }
    if (record.unit_source < 0) has_jumps_ = true;
    source += record.unit_source;
    if (text_size_ > kMaxPosition || source > kMaxPosition)
      return Corrupt("a position out of range");
  }
  return absl::OkStatus();
}

size_t SourceMap::memory_bytes() const {
  return records_.capacity() + stretches_.capacity() * sizeof(Stretch) +
         page_text_begins_.capacity() * sizeof(uint64_t);
}

void SourceMap::Builder::Flush(uint64_t unit_text, int64_t unit_source) {
  AppendVarint(linear_, &records_);
  AppendVarint(unit_text, &records_);
  AppendVarint(ZigZag(unit_source), &records_);
  linear_ = 0;
}

void SourceMap::Builder::StepTo(uint64_t source) {
  if (source == source_next_) return;
  Flush(0, static_cast<int64_t>(source) - static_cast<int64_t>(source_next_));
  source_next_ = source;
}

void SourceMap::Builder::AddLinear(uint64_t source_begin, uint64_t length) {
  if (length == 0) return;
  StepTo(source_begin);
  linear_ += length;
  text_size_ += length;
  source_next_ += length;
}

void SourceMap::Builder::AddUnit(uint64_t text_length, uint64_t source_begin, uint64_t source_end) {
  LECTERN_CHECK(text_length > 0 && source_begin <= source_end);
  if (text_length == 1 && source_end - source_begin == 1) {
    AddLinear(source_begin, 1);
    return;
  }
  StepTo(source_begin);
  Flush(text_length, static_cast<int64_t>(source_end - source_begin));
  text_size_ += text_length;
  source_next_ = source_end;
}

void SourceMap::Builder::StartPage() { page_text_begins_.push_back(text_size_); }

SourceMap SourceMap::Builder::Build() && {
  if (linear_ > 0) Flush(0, 0);
  SourceMap map;
  map.records_ = std::move(records_);
  map.records_.shrink_to_fit();
  map.page_text_begins_ = std::move(page_text_begins_);
  const absl::Status indexed = map.Index();
  LECTERN_CHECK(indexed.ok());
  return map;
}

}  // namespace lectern::engine
