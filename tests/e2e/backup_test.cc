// Backups of a server that goes on serving, and what comes back from them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "lectern/v1/backups.grpc.pb.h"
#include "tests/e2e/deployment.h"
#include "tests/support/test_engine.h"

namespace lectern::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr char kSlow[] = "--backup_rate=256KiB";  // a backup of the tests' data takes half a minute

class BackupTest : public ::testing::Test {
 protected:
  std::unique_ptr<Deployment> Serve(const std::string& data,
                                    const std::vector<std::string>& flags = {},
                                    Topology topology = Topology::kServe) {
    auto deployment = std::make_unique<Deployment>(DeploymentOptions{.topology = topology,
                                                                     .data_dir = folder_ / data,
                                                                     .model_dir = SmallModel(),
                                                                     .engine_flags = flags});
    backups_ = v1::Backups::NewStub(
        grpc::CreateChannel(deployment->address(), grpc::InsecureChannelCredentials()));
    return deployment;
  }
  std::string BackupDir() const { return "--backup_dir=" + (folder_ / "backups"); }

  static void Fill(Deployment& deployment, const std::string& corpus, int words, uint64_t seed) {
    ASSERT_TRUE(CreateCorpus(deployment, corpus).ok());
    ASSERT_TRUE(Upload(deployment, corpus, "d", RandomText(words, seed)).ok());
    v1::Operation operation;
    ASSERT_TRUE(Ingest(deployment, corpus, &operation).ok());
    ASSERT_FALSE(operation.has_error()) << operation.error().message();
  }

  grpc::Status Create(const std::string& id, v1::Backup* backup) {
    v1::CreateBackupRequest request;
    request.set_backup_id(id);
    grpc::ClientContext context;
    return backups_->CreateBackup(&context, request, backup);
  }
  v1::Backup Get(const std::string& id) {
    v1::GetBackupRequest request;
    request.set_name("backups/" + id);
    v1::Backup backup;
    grpc::ClientContext context;
    const grpc::Status status = backups_->GetBackup(&context, request, &backup);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return backup;
  }
  v1::Backup Await(const std::string& id, const std::function<bool(const v1::Backup&)>& enough) {
    v1::Backup backup = Get(id);
    while (!enough(backup) && usleep(20'000) == 0) backup = Get(id);
    return backup;
  }
  v1::Backup AwaitEnd(const std::string& id) {
    return Await(id,
                 [](const v1::Backup& backup) { return backup.state() != v1::Backup::RUNNING; });
  }
  std::vector<std::string> InBackupDir() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_ / "backups")) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  const TemporaryDirectory folder_;
  std::unique_ptr<v1::Backups::Stub> backups_;
};

TEST_F(BackupTest, AServerAnswersWhileItIsBackedUpAndTheBackupAnswersAsItDid) {
  std::string answer;
  {
    const auto deployment = Serve("data", {BackupDir(), "--backup_rate=2MiB"}, Topology::kSplit);
    Fill(*deployment, "book", 3000, 31);
    answer = Ask(*deployment, Question("book", "What happened?")).completed.answer();
    v1::Backup backup;
    ASSERT_TRUE(Create("first", &backup).ok());
    EXPECT_EQ(backup.name(), "backups/first");
    EXPECT_EQ(Reason(Create("second", &backup)), "BACKUP_RUNNING");
    // What comes after the moment is not in it.
    Await("first", [](const v1::Backup& now) { return now.bytes_total() > 0; });
    int answered = 0;
    while (Get("first").state() == v1::Backup::RUNNING) {
      const Asked asked = Ask(*deployment, Question("book", "What happened?"));
      ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
      EXPECT_EQ(asked.completed.answer(), answer);
      if (answered++ == 0) Fill(*deployment, "later", 100, 32);
    }
    EXPECT_GT(answered, 0);
    backup = Get("first");
    ASSERT_EQ(backup.state(), v1::Backup::COMPLETE) << backup.error().message();
    EXPECT_EQ(backup.bytes_done(), backup.bytes_total());
    EXPECT_GT(backup.bytes_total(), 1 << 20);
    EXPECT_EQ(Reason(Create("first", &backup)), "BACKUP_EXISTS");
    EXPECT_FALSE(fs::exists(folder_ / "data/backup")) << "the moment is let go of";
    EXPECT_TRUE(deployment->StopAll());
  }
  const Finished restored =
      RunCommand({Program("lectern"), "restore", "--from=" + (folder_ / "backups/first"),
                  "--data_dir=" + (folder_ / "restored")});
  ASSERT_EQ(restored.code, 0) << restored.errors;
  EXPECT_THAT(restored.output, HasSubstr("0 damaged"));
  const auto deployment = Serve("restored", {BackupDir()});
  const Asked asked = Ask(*deployment, Question("book", "What happened?"));
  ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
  EXPECT_EQ(asked.completed.answer(), answer);
  EXPECT_EQ(asked.completed.usage().corpus_prefill_tokens(), 0);
  v1::Stats stats;
  grpc::ClientContext context;
  ASSERT_TRUE(deployment->models().GetStats(&context, {}, &stats).ok());
  EXPECT_EQ(stats.corpus_prefill_tokens(), 0);
  EXPECT_EQ(Reason(Ask(*deployment, Question("later", "What?")).status), "CORPUS_NOT_FOUND");
  // A process that made none of them finds what lies there.
  EXPECT_EQ(Get("first").state(), v1::Backup::COMPLETE);
}

TEST_F(BackupTest, ACancelledOneLeavesNothing) {
  const auto deployment = Serve("data", {BackupDir(), kSlow});
  Fill(*deployment, "book", 2500, 33);
  v1::Backup backup;
  ASSERT_TRUE(Create("", &backup).ok());
  const std::string id = backup.name().substr(8);
  Await(id, [](const v1::Backup& now) { return now.bytes_done() > 0; });
  v1::CancelBackupRequest cancel;
  cancel.set_name(backup.name());
  grpc::ClientContext context;
  ASSERT_TRUE(backups_->CancelBackup(&context, cancel, &backup).ok());
  EXPECT_EQ(backup.state(), v1::Backup::CANCELLED);
  EXPECT_LT(backup.bytes_done(), backup.bytes_total());
  EXPECT_THAT(InBackupDir(), ::testing::IsEmpty());
  EXPECT_FALSE(fs::exists(folder_ / "data/backup"));
  // One that has ended stays as it ended, and its id may be used again.
  grpc::ClientContext again;
  ASSERT_TRUE(backups_->CancelBackup(&again, cancel, &backup).ok());
  EXPECT_EQ(backup.state(), v1::Backup::CANCELLED);
  ASSERT_TRUE(Create(id, &backup).ok());
  // A server that is stopped does not wait for it.
  EXPECT_TRUE(deployment->StopAll());
  EXPECT_THAT(InBackupDir(), ::testing::IsEmpty());
}

TEST_F(BackupTest, AKillInTheMiddleLeavesNoBackupAndHarmsNothing) {
  {
    const auto deployment = Serve("data", {BackupDir(), kSlow});
    Fill(*deployment, "book", 2500, 34);
    v1::Backup backup;
    ASSERT_TRUE(Create("cut", &backup).ok());
    Await("cut", [](const v1::Backup& now) { return now.bytes_done() > 0; });
    deployment->KillAll();
    EXPECT_THAT(InBackupDir(), ::testing::SizeIs(1));
  }
  // Another server's unfinished one in the same directory is none of ours.
  fs::create_directory(folder_ / "backups/.partial-0123-theirs");
  const auto deployment = Serve("data", {BackupDir(), "--backup_rate=0"});
  EXPECT_THAT(InBackupDir(), ::testing::ElementsAre(".partial-0123-theirs"));
  EXPECT_FALSE(fs::exists(folder_ / "data/backup"));
  v1::ListBackupsResponse listed;
  grpc::ClientContext context;
  ASSERT_TRUE(backups_->ListBackups(&context, {}, &listed).ok());
  EXPECT_EQ(listed.backups_size(), 0);
  EXPECT_EQ(Ask(*deployment, Question("book", "What?")).completed.usage().corpus_prefill_tokens(),
            0);
  v1::Backup backup;
  for (const char* id : {"a", "b", "c"}) {
    ASSERT_TRUE(Create(id, &backup).ok());
    ASSERT_EQ(AwaitEnd(id).state(), v1::Backup::COMPLETE);
  }
  // Pages, whose token survives what is removed.
  v1::ListBackupsRequest page;
  page.set_page_size(2);
  grpc::ClientContext first;
  ASSERT_TRUE(backups_->ListBackups(&first, page, &listed).ok());
  ASSERT_EQ(listed.backups_size(), 2);
  fs::remove_all(folder_ / "backups/b");
  page.set_page_token(listed.next_page_token());
  grpc::ClientContext second;
  ASSERT_TRUE(backups_->ListBackups(&second, page, &listed).ok());
  ASSERT_EQ(listed.backups_size(), 1);
  EXPECT_EQ(listed.backups(0).name(), "backups/c");
  EXPECT_EQ(listed.next_page_token(), "");
}

TEST_F(BackupTest, WhereNothingCanGoItSaysWhatToDo) {
  const std::string file = folder_ / "file";
  std::ofstream(file) << "no directory";
  const Finished finished =
      RunCommand({Program("lectern"), "serve", "--listen=127.0.0.1:0",
                  "--metrics_listen=127.0.0.1:0", "--data_dir=" + (folder_ / "data"),
                  "--model_dir=" + SmallModel(), "--pool_bytes=64MiB", "--backup_dir=" + file});
  EXPECT_EQ(finished.code, 1);
  EXPECT_THAT(finished.errors, HasSubstr("--backup_dir"));

  const auto deployment = Serve("data");
  v1::Backup backup;
  const grpc::Status status = Create("x", &backup);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Reason(status), "BACKUP_DIR_MISSING");
  EXPECT_THAT(status.error_message(), HasSubstr("--backup_dir"));
}

TEST_F(BackupTest, TheCommandLineMakesListsAndEndsThem) {
  const auto deployment = Serve("data", {BackupDir()});
  Fill(*deployment, "book", 200, 35);
  const auto lectern = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), Program("lectern"));
    arguments.push_back("--address=" + deployment->address());
    return RunCommand(arguments);
  };
  const Finished made = lectern({"backups", "create", "nightly"});
  EXPECT_EQ(made.code, 0) << made.errors;
  EXPECT_THAT(made.errors, HasSubstr(folder_ / "backups/nightly"));
  EXPECT_THAT(lectern({"backups"}).output, HasSubstr("COMPLETE"));
  EXPECT_THAT(lectern({"backups", "get", "nightly"}).output, HasSubstr("bytes_total"));
  EXPECT_EQ(lectern({"backups", "wait", "nightly"}).code, 0);
  EXPECT_EQ(lectern({"backups", "cancel", "nightly"}).code, 0);
  const Finished twice = lectern({"backups", "create", "nightly"});
  EXPECT_EQ(twice.code, 1);
  EXPECT_THAT(twice.errors, HasSubstr("BACKUP_EXISTS"));
  EXPECT_THAT(lectern({"backups", "get", "none"}).errors, HasSubstr("BACKUP_NOT_FOUND"));
  EXPECT_THAT(lectern({"backups", "get", "No/Name"}).errors, HasSubstr("NAME_INVALID"));
  EXPECT_EQ(lectern({"backups", "juggle", "nightly"}).code, 2);
}

}  // namespace
}  // namespace lectern::testing
