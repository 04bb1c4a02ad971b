// The command line's own parsing, files and output.
#include <absl/flags/flag.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "services/cli/client.h"
#include "services/cli/file.h"
#include "services/cli/flag_parser.h"
#include "services/cli/output.h"
#include "services/rpc/names.h"
#include "tests/support/temporary_directory.h"

ABSL_FLAG(bool, test_switch, true, "a switch");
ABSL_FLAG(int, test_number, 7, "a number");

namespace lectern::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<std::string_view> kFlags = {"test_switch", "test_number", "flagfile"};

TEST(FlagParser, FlagsAndArgumentsInAnyOrder) {
  const auto parsed =
      ParseArguments({"a", "--test-number=3", "b c", "--no-test-switch", "--", "--d"}, kFlags);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT(parsed->positional, ElementsAre("a", "b c", "--d"));
  EXPECT_EQ(absl::GetFlag(FLAGS_test_number), 3);
  EXPECT_FALSE(absl::GetFlag(FLAGS_test_switch));
  ASSERT_TRUE(ParseArguments({"--test_number", "4", "--test_switch"}, kFlags).ok());
  EXPECT_EQ(absl::GetFlag(FLAGS_test_number), 4);
  EXPECT_TRUE(absl::GetFlag(FLAGS_test_switch));
  ASSERT_TRUE(ParseArguments({"--notest_switch"}, kFlags).ok());
  EXPECT_FALSE(absl::GetFlag(FLAGS_test_switch));
  EXPECT_TRUE(ParseArguments({"--help"}, kFlags)->help);
}

TEST(FlagParser, SaysWhatIsWrong) {
  const auto complaint = [](const std::vector<std::string>& arguments) {
    return std::string(ParseArguments(arguments, kFlags).status().message());
  };
  EXPECT_THAT(complaint({"--other"}), HasSubstr("unknown flag --other"));
  EXPECT_THAT(complaint({"--test_number"}), HasSubstr("needs a value"));
  EXPECT_THAT(complaint({"--test_number=x"}), HasSubstr("--test_number=x"));
  EXPECT_THAT(complaint({"--no-test-number"}), HasSubstr("unknown flag"));
  EXPECT_THAT(complaint({"--address=x"}), HasSubstr("unknown flag")) << "of another subcommand";
  EXPECT_THAT(complaint({"--flagfile=/no/such/file"}), HasSubstr("cannot be read"));
}

TEST(FlagParser, ReadsFlagFiles) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory / "flags";
  std::ofstream(path) << "# a comment\n\n  --test_number=42  \n";
  const auto parsed = ParseArguments({"x", "--flagfile=" + path}, kFlags);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT(parsed->positional, ElementsAre("x"));
  EXPECT_EQ(absl::GetFlag(FLAGS_test_number), 42);
}

TEST(DocumentId, IsAValidIdAndDiffersWhenNamesDiffer) {
  EXPECT_EQ(DocumentId("tar.1.txt"), "tar.1.txt");
  std::set<std::string> ids;
  for (const std::string& name :
       {std::string("Tar.1.txt"), std::string("tar 1.txt"), std::string("tar/1.txt"),
        std::string("\xE6\x97\xA5\xE6\x9C\xAC"), std::string(".hidden"), std::string(300, 'x'),
        std::string(301, 'x'), std::string("---")}) {
    const std::string id = DocumentId(name);
    EXPECT_TRUE(IsId(id)) << name << " -> " << id;
    EXPECT_EQ(id, DocumentId(name));
    EXPECT_TRUE(ids.insert(id).second) << name << " -> " << id;
  }
}

TEST(Files, FoldersInNameOrderWithoutHiddenFiles) {
  const testing::TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "docs/b");
  std::filesystem::create_directories(directory / "docs/.git");
  for (const char* name :
       {"docs/z.txt", "docs/b/a.txt", "docs/.hidden", "docs/.git/x", "docs/A.txt"}) {
    std::ofstream(directory / name) << name;
  }
  const auto files = FindFiles({directory / "docs", directory / "docs/z.txt"});
  ASSERT_TRUE(files.ok()) << files.status();
  std::vector<std::string> names;
  for (const LocalFile& file : *files) names.push_back(file.display_name);
  EXPECT_THAT(names, ElementsAre("A.txt", "b/a.txt", "z.txt", "z.txt"));
  EXPECT_EQ(FindFiles({directory / "none"}).status().code(), absl::StatusCode::kNotFound);
}

TEST(Files, Sha256) {
  const testing::TemporaryDirectory directory;
  std::ofstream(directory / "f") << "abc";
  const auto hash = HashFile(directory / "f");
  ASSERT_TRUE(hash.ok()) << hash.status();
  std::string hex;
  for (const unsigned char byte : *hash) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  EXPECT_EQ(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Output, Text) {
  EXPECT_EQ(Thousands(0), "0");
  EXPECT_EQ(Thousands(999), "999");
  EXPECT_EQ(Thousands(1234567), "1,234,567");
  EXPECT_EQ(Thousands(-1234), "-1,234");
  EXPECT_EQ(Bytes(512), "512 B");
  EXPECT_EQ(Bytes(1536), "1.5 KiB");
  EXPECT_EQ(Bar(1, 2, 4), "[##..]");
  EXPECT_EQ(Bar(5, 0, 4), "[....]");
  EXPECT_EQ(Printable("a\x1b[31mb\tc\n"), "a?[31mb\tc\n");
  EXPECT_EQ(OneLine("  two \n\n words\t", 100), "two words");
  EXPECT_EQ(OneLine("\xC3\xA9\xC3\xA9\xC3\xA9", 2), "\xC3\xA9\xC3\xA9...");
}

TEST(Output, JsonShowsQuotesAsText) {
  v1::AskResponse::Completed completed;
  completed.set_answer("42");
  completed.add_evidence()->set_quote("caf\xC3\xA9");
  const Json json = ToJson(completed);
  EXPECT_EQ(json["answer"], "42");
  EXPECT_EQ(json["evidence"][0]["quote"], "caf\xC3\xA9");
  EXPECT_EQ(json["not_in_documents"], false);
}

TEST(Arguments, ShortAndWholeNames) {
  EXPECT_EQ(CorpusArgument("c"), "tenants/default/corpora/c");
  EXPECT_EQ(CorpusArgument("tenants/t/corpora/c"), "tenants/t/corpora/c");
  EXPECT_EQ(ResourceArgument("c/s", Collection::kSessions), "tenants/default/corpora/c/sessions/s");
  EXPECT_EQ(ResourceArgument("s", Collection::kSessions, "c"),
            "tenants/default/corpora/c/sessions/s");
  EXPECT_EQ(IdOf("tenants/default/corpora/c"), "c");
}

}  // namespace
}  // namespace lectern::services
