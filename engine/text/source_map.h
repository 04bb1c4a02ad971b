// From the bytes of an extracted text back to where they came from.
//
// A map is a list of pieces in text order. A linear piece takes n text bytes one to one to n source
// bytes; a unit takes a few text bytes as a whole to a source range (a run of blanks that became
// one space, an entity that became a character). Source bytes that left no trace in the text lie
// between pieces. In memory a map is its own serialised form, two to three bytes a piece, plus a
// sparse index, so that even a text of nothing but units costs about as much as the source itself.
//
// What a source position means is the extractor's business (engine/text/extractor.h, SourceSpace).
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lectern::engine {

// Half-open byte range in the source; pages count from 1, 0 where the source has no pages.
struct SourceRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint32_t first_page = 0;
  uint32_t last_page = 0;

  friend bool operator==(const SourceRange&, const SourceRange&) = default;
};

// Immutable once built; const members may be called from any number of threads.
class SourceMap {
 public:
  class Builder;

  // The map of an empty text.
  SourceMap() = default;

  // The map that takes every byte of a text of `size` bytes to itself.
  static SourceMap Identity(uint64_t size);

  // The smallest source range that holds the origin of every byte of text [begin, end); begin <=
  // end <= text_size() (checked: a wrong range is the caller's bug). An empty range maps to the
  // empty range where its next byte begins. Constant time but for one stretch of the sparse index;
  // for a map with source jumps (HTML whose parse order differs from its byte order) linear in the
  // pieces covered.
  SourceRange Map(uint64_t begin, uint64_t end) const;

  // This map after `inner`: this takes a text to a middle text, `inner` takes the middle text to
  // the source. Pages of either are kept (those of `inner` where both have some). inner.text_size()
  // must be at least the largest middle position.
  SourceMap Compose(const SourceMap& inner) const;

  uint64_t text_size() const { return text_size_; }
  bool paged() const { return !page_text_begins_.empty(); }
  // The page that holds text byte `offset`, 0 if the map has no pages.
  uint32_t PageOf(uint64_t offset) const;

  // Versioned bytes; Parse refuses a newer version (STORED_FORMAT_NEWER) and anything inconsistent
  // (STORED_BYTES_CORRUPT).
  std::string Serialize() const;
  static absl::StatusOr<SourceMap> Parse(std::string_view bytes);

  // Bytes of memory held.
  size_t memory_bytes() const;

  friend bool operator==(const SourceMap& a, const SourceMap& b) {
    return a.records_ == b.records_ && a.page_text_begins_ == b.page_text_begins_;
  }

 private:
  // A record: `linear` bytes one to one, then `unit_text` bytes to `unit_source` bytes. With
  // unit_text == 0, unit_source is a signed step over source bytes that are not in the text.
  struct Record {
    uint64_t linear = 0;
    uint64_t unit_text = 0;
    int64_t unit_source = 0;
  };
  // Where a stretch of kRecordsPerStretch records begins.
  struct Stretch {
    uint64_t text = 0;
    uint64_t source = 0;
    uint64_t record_offset = 0;
  };
  struct Cursor;
  static constexpr int kRecordsPerStretch = 64;

  Cursor Seek(uint64_t text_offset) const;
  absl::Status Index();

  std::string records_;
  std::vector<Stretch> stretches_;
  std::vector<uint64_t> page_text_begins_;  // page i + 1 begins at text byte [i]
  uint64_t text_size_ = 0;
  bool has_jumps_ = false;
};

// Appends pieces in text order. Source positions are absolute; steps back are allowed (they make
// Map slower).
class SourceMap::Builder {
 public:
  // The next `length` text bytes are source bytes [source_begin, source_begin + length).
  void AddLinear(uint64_t source_begin, uint64_t length);
  // The next `text_length` (> 0) text bytes come, as a whole, from source bytes [source_begin,
  // source_end).
  void AddUnit(uint64_t text_length, uint64_t source_begin, uint64_t source_end);
  // A page begins at the next text byte. Pages are numbered from 1 in the order of calls; a page
  // without text is a call too.
  void StartPage();

  uint64_t text_size() const { return text_size_; }
  SourceMap Build() &&;

 private:
  void StepTo(uint64_t source);
  void Flush(uint64_t unit_text, int64_t unit_source);

  std::string records_;
  std::vector<uint64_t> page_text_begins_;
  uint64_t linear_ = 0;  // length of the linear piece not yet written
  uint64_t text_size_ = 0;
  uint64_t source_next_ = 0;  // where the last piece ended
};

}  // namespace lectern::engine
