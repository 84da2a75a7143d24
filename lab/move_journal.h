// SPDX-License-Identifier: GPL-2.0-or-later
//
// How far a move has got, on disk before each step: what `godwit migrate --recover` goes by if
// the command that made the move is gone. One file per container, moves/NAME in the lab's folder;
// who works on the move holds the file's lock.
#ifndef GODWIT_LAB_MOVE_JOURNAL_H
#define GODWIT_LAB_MOVE_JOURNAL_H

#include <cstdint>
#include <string>
#include <vector>

namespace godwit::lab {

struct MoveState {
  std::string container;
  std::string from;
  std::string to;
  std::string move_id;        // names checkpoint, tombstones and reservations
  std::string step;           // that has begun
  std::uint32_t attempt = 1;  // number of the restore at hand
  bool verbs = false;         // the checkpoint holds verbs objects
};

class MoveJournal {
 public:
  // Of a new move. Throws if one of this container is under way, or was left unfinished.
  MoveJournal(const std::string& lab_folder, const MoveState& state);
  // Of the unfinished move of `container`. Throws if there is none, or if a command is at work on
  // it.
  MoveJournal(const std::string& lab_folder, const std::string& container);
  ~MoveJournal();
  MoveJournal(const MoveJournal&) = delete;
  MoveJournal& operator=(const MoveJournal&) = delete;

  MoveState state;
  void save();  // `state`, to the disk
  void end();   // the move is over, one way or the other
  [[nodiscard]] bool ended() const;

  // Containers with a journal, whether or not a command is at work on it.
  [[nodiscard]] static std::vector<std::string> unfinished(const std::string& lab_folder);

 private:
  void lock(int flags);

  std::string path_;
  int fd_ = -1;
};

}  // namespace godwit::lab

#endif  // GODWIT_LAB_MOVE_JOURNAL_H
