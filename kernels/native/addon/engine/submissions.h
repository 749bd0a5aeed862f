#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "stepper.h"

namespace cellbatch {

/** Runs a stepper on a thread of its own, one submission of commands and steps after the other. */
class Submissions {
 public:
  /** `wake` is called on that thread, also once when the device has failed. */
  Submissions(Stepper& stepper, const Board& board, std::function<void()> wake);
  ~Submissions();

  /** Copies the words and returns at once. `wakes`: whether `wake` is called when the steps are done. */
  void submit(const int32_t* words, size_t count, int steps, bool wakes);
  /** What the device failed with, or nothing. */
  std::string failure();
  /** Waits for the step that is running; what was submitted behind it is forgotten. */
  void stop();

 private:
  struct Submission {
    std::vector<int32_t> words;
    int steps = 0;
    bool wakes = false;
  };

  void work();

  Stepper& stepper_;
  Board board_;
  const std::function<void()> wake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Submission> queue_;
  /** Memory of words that were applied. */
  std::vector<std::vector<int32_t>> spare_;
  bool isStopping_ = false;
  std::string failure_;
  std::thread thread_;
};

}  // namespace cellbatch
