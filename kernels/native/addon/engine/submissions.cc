#include "submissions.h"

namespace cellbatch {

Submissions::Submissions(Stepper& stepper, const Board& board, std::function<void()> wake)
    : stepper_(stepper), board_(board), wake_(std::move(wake)), thread_([this] { work(); }) {}

Submissions::~Submissions() { stop(); }

void Submissions::submit(const int32_t* words, size_t count, int steps, bool wakes) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    Submission submission;
    if (!spare_.empty()) {
      submission.words = std::move(spare_.back());
      spare_.pop_back();
    }
    submission.words.assign(words, words + count);
    submission.steps = steps;
    submission.wakes = wakes;
    queue_.push_back(std::move(submission));
  }
  changed_.notify_one();
}

std::string Submissions::failure() {
  std::lock_guard<std::mutex> lock(mutex_);
  return failure_;
}

void Submissions::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    isStopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Submissions::work() {
  uint32_t done = 0;
  for (;;) {
    Submission submission;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return isStopping_ || !queue_.empty(); });
      if (isStopping_) return;
      submission = std::move(queue_.front());
      queue_.pop_front();
    }
    bool isOver = false;
    try {
      stepper_.apply(submission.words.data(), submission.words.size());
      stepper_.advance(submission.steps);
    } catch (const std::exception& error) {
      std::lock_guard<std::mutex> lock(mutex_);
      failure_ = error.what();
      board_.set(ring::FAILED, 1);
      isOver = isStopping_ = true;
    }
    done++;
    board_.set(ring::SUBMISSIONS, done);
    if (submission.wakes || isOver) wake_();
    std::lock_guard<std::mutex> lock(mutex_);
    spare_.push_back(std::move(submission.words));
  }
}

}  // namespace cellbatch
