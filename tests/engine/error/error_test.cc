#include "engine/error/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "engine/error/reason.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

TEST(Error, CarriesCodeMessageReasonAndMetadata) {
  const absl::Status status =
      Error(absl::StatusCode::kNotFound, reason::kTensorMissing, "no such tensor",
            {{"tensor", "a.b"}, {"note", "line\n\"quoted\""}});
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(std::string(status.message()), "no such tensor");
  EXPECT_EQ(ReasonOf(status), "TENSOR_MISSING");
  EXPECT_THAT(MetadataOf(status),
              UnorderedElementsAre(Pair("tensor", "a.b"), Pair("note", "line\n\"quoted\"")));
}

TEST(Error, ReasonOfForeignStatusesIsEmpty) {
  EXPECT_EQ(ReasonOf(absl::OkStatus()), "");
  EXPECT_EQ(ReasonOf(absl::InternalError("x")), "");
  EXPECT_THAT(MetadataOf(absl::InternalError("x")), IsEmpty());
  absl::Status broken = absl::InternalError("x");
  broken.SetPayload("lectern.dev/reason", absl::Cord("not json"));
  EXPECT_EQ(ReasonOf(broken), "");
}

TEST(Error, MetadataThatIsNotUtf8DoesNotThrow) {
  const absl::Status status =
      InvalidArgument(reason::kDocumentBinary, "bad", {{"bytes", "\xff\xfe"}});
  EXPECT_EQ(MetadataOf(status).at("bytes"), "\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(Error, AnnotateKeepsWhatIsAttached) {
  const absl::Status status =
      Annotate(InvalidArgument(reason::kTensorShape, "wrong", {{"k", "v"}}), "dir/file");
  EXPECT_EQ(std::string(status.message()), "dir/file: wrong");
  EXPECT_EQ(ReasonOf(status), "TENSOR_SHAPE");
  EXPECT_THAT(MetadataOf(status), UnorderedElementsAre(Pair("k", "v")));
  EXPECT_TRUE(Annotate(absl::OkStatus(), "context").ok());
}

absl::StatusOr<int> Half(int value) {
  if (value % 2 != 0) return absl::InvalidArgumentError("odd");
  return value / 2;
}

absl::Status Quarter(int value, int* out) {
  LECTERN_ASSIGN_OR_RETURN(const int half, Half(value));
  LECTERN_ASSIGN_OR_RETURN(*out, Half(half));
  LECTERN_RETURN_IF_ERROR(absl::OkStatus());
  return absl::OkStatus();
}

TEST(StatusMacros, ReturnEarlyAndAssign) {
  int out = 0;
  EXPECT_TRUE(Quarter(8, &out).ok());
  EXPECT_EQ(out, 2);
  EXPECT_EQ(Quarter(6, &out).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lectern::engine
