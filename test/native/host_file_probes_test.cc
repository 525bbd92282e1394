#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <thread>

#include "core/error.h"
#include "device_test_support.h"
#include "host/file_probes.h"

namespace tsvmm {
namespace {

bool eventually_answers(FileProbes& probes, const std::string& path) {
  return eventually([&] { return probes.answers(path); });
}

TEST(HostFileProbes, FilesAndErrorsAnswer) {
  const std::string folder =
      std::filesystem::temp_directory_path() / ("tsvmm-probes-" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  std::ofstream(folder + "/file") << "bytes";
  ::mkfifo((folder + "/fifo").c_str(), 0600);
  FileProbes probes;
  for (const char* name : {"/file", "/fifo", "/none", ""}) {
    EXPECT_TRUE(eventually_answers(probes, folder + name)) << name;
  }
  std::filesystem::remove_all(folder);
}

TEST(HostFileProbes, WhatIsCachedIsNotRead) {
  unsigned reads = 0;
  FileProbes probes([&reads](const std::string&) { ++reads; },
                    [](const std::string& path) { return path == "/cached"; });
  EXPECT_TRUE(probes.answers("/cached"));
  EXPECT_EQ(reads, 0U);
  EXPECT_TRUE(eventually_answers(probes, "/other"));
  EXPECT_EQ(reads, 1U);
}

TEST(HostFileProbes, AStoreThatIsNotQuickIsAskedOnce) {
  std::promise<void> answer;
  const auto answered = answer.get_future().share();
  std::atomic<unsigned> reads = 0;
  FileProbes probes([&reads, answered](const std::string&) {
    ++reads;
    answered.wait();
  });
  EXPECT_FALSE(probes.answers("/slow"));
  EXPECT_FALSE(probes.answers("/slow"));
  answer.set_value();
  EXPECT_TRUE(eventually_answers(probes, "/slow"));
  EXPECT_EQ(reads, 1U);
}

TEST(HostFileProbes, AStoreThatHangsKeepsOneThreadEachAndNoMoreThanSomeOfThem) {
  std::promise<void> answer;
  const auto answered = answer.get_future().share();
  std::atomic<unsigned> reads = 0;
  FileProbes probes([&reads, answered](const std::string& path) {
    ++reads;
    if (path != "/other") answered.wait();
  });
  for (int again = 0; again < 3; ++again) {
    for (size_t i = 0; i < FileProbes::kMaxProbes; ++i) {
      EXPECT_FALSE(probes.answers("/hung" + std::to_string(i)));
    }
  }
  EXPECT_THROW((void)probes.answers("/other"), Error);
  EXPECT_TRUE(eventually([&] { return reads == FileProbes::kMaxProbes; }));
  answer.set_value();
  EXPECT_TRUE(eventually_answers(probes, "/hung0"));
  EXPECT_TRUE(eventually_answers(probes, "/other")) << "those that have answered make room";
}

TEST(HostFileProbes, WhatWasFoundOutForSomebodyWhoGaveUpIsForgotten) {
  std::promise<void> answer;
  const auto answered = answer.get_future().share();
  std::atomic<unsigned> begun = 0;
  std::atomic<unsigned> ended = 0;
  std::promise<void> first;
  const auto first_answered = first.get_future().share();
  FileProbes probes([&](const std::string&) {
    (++begun == 2 ? answered : first_answered).wait();
    ++ended;
  });
  EXPECT_FALSE(probes.answers("/file"));
  first.set_value();
  EXPECT_TRUE(eventually([&] { return ended == 1; }));
  std::this_thread::sleep_for(FileProbes::kForgetAfter);
  EXPECT_FALSE(probes.answers("/file")) << "its store hangs by now";
  EXPECT_TRUE(eventually([&] { return begun == 2; }));
  EXPECT_FALSE(probes.answers("/file"));
  answer.set_value();
  EXPECT_TRUE(eventually_answers(probes, "/file"));
}

}  // namespace
}  // namespace tsvmm
