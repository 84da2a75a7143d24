// SPDX-License-Identifier: GPL-2.0-or-later
#include "move_journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "error.h"

namespace godwit::lab {
namespace {

using Json = nlohmann::json;

std::string journal_folder(const std::string& lab_folder) { return lab_folder + "/moves"; }

}  // namespace

MoveJournal::MoveJournal(const std::string& lab_folder, const MoveState& first)
    : state(first), path_(journal_folder(lab_folder) + "/" + first.container) {
  std::filesystem::create_directories(journal_folder(lab_folder));
  lock(O_CREAT);
  struct stat st;
  if (fstat(fd_, &st) != 0 || st.st_size != 0) {
    close(fd_);
    throw Error("an earlier move of " + state.container +
                " was not finished: godwit migrate --recover " + state.container);
  }
  save();
}

MoveJournal::MoveJournal(const std::string& lab_folder, const std::string& container)
    : path_(journal_folder(lab_folder) + "/" + container) {
  lock(0);
  char text[4096];
  const ssize_t n = pread(fd_, text, sizeof(text), 0);
  const Json json = Json::parse(text, text + std::max<ssize_t>(n, 0), nullptr, false);
  try {
    state = {container,       json.at("from"),    json.at("to"),   json.at("move"),
             json.at("step"), json.at("attempt"), json.at("verbs")};
  } catch (const Json::exception&) {
    // Killed before the first line was there: nothing had begun.
    end();
    close(fd_);  // and with it the lock: an object that was not made has no destructor
    throw Error("no move of " + container + " is unfinished");
  }
}

MoveJournal::~MoveJournal() {
  if (fd_ >= 0) close(fd_);
}

// The lock is on the file: one that has been removed meanwhile is not the one to hold.
void MoveJournal::lock(int flags) {
  for (;;) {
    fd_ = open(path_.c_str(), O_RDWR | O_CLOEXEC | flags, 0600);
    if (fd_ < 0 && errno == ENOENT) throw Error("no unfinished move: " + path_ + " is not there");
    if (fd_ < 0) throw_errno(path_);
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      close(fd_);
      throw Error(path_.substr(path_.rfind('/') + 1) +
                  " is being moved already, by another command");
    }
    struct stat held, named;
    if (fstat(fd_, &held) == 0 && stat(path_.c_str(), &named) == 0 && held.st_ino == named.st_ino)
      return;
    close(fd_);
  }
}

void MoveJournal::save() {
  const std::string text =
      Json{{"from", state.from}, {"to", state.to},           {"move", state.move_id},
           {"step", state.step}, {"attempt", state.attempt}, {"verbs", state.verbs}}
          .dump() +
      "\n";
  // One write: a reader never sees half of it, whenever the writer is killed.
  if (pwrite(fd_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      ftruncate(fd_, static_cast<off_t>(text.size())) != 0 || fdatasync(fd_) != 0) {
    throw_errno(path_);
  }
}

void MoveJournal::end() { unlink(path_.c_str()); }

bool MoveJournal::ended() const { return access(path_.c_str(), F_OK) != 0; }

std::vector<std::string> MoveJournal::unfinished(const std::string& lab_folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator(journal_folder(lab_folder), ignored)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace godwit::lab
