#pragma once

#include <cstring>

#include "protocol.h"

namespace cellbatch {

/** Memory that callers read while the engine runs. */
class Board {
 public:
  Board() = default;
  /** `ring` has room for `entries`, a power of two and at least the slots, so that none is lost. */
  Board(int32_t* words, int entries, float* outputs, int width, int32_t* tokens, int mostTokens)
      : words_(words), entries_(entries), outputs_(outputs), width_(width), tokens_(tokens), mostTokens_(mostTokens) {}

  /** `[h, c, logits]` of a slot's last step. */
  float* outputsOf(int slot) const { return outputs_ + static_cast<size_t>(slot) * width_; }
  int32_t* tokensOf(int slot) const { return tokens_ + static_cast<size_t>(slot) * mostTokens_; }

  /** Seen once it is published. */
  void add(const Entry& entry) {
    int32_t* to = words_ + ring::HEADER + (written_ & (entries_ - 1)) * ring::WORDS;
    std::memcpy(to, &entry, sizeof entry);
    written_++;
    isChanged_ = true;
  }

  bool isChanged() const { return isChanged_; }

  /** All that was written for the entries is there for who sees them. */
  void publish() {
    set(ring::ENTRIES, written_);
    isChanged_ = false;
  }

  void set(int word, uint32_t value) const {
    __atomic_store_n(words_ + word, static_cast<int32_t>(value), __ATOMIC_RELEASE);
  }

 private:
  int32_t* words_ = nullptr;
  int entries_ = 0;
  float* outputs_ = nullptr;
  int width_ = 0;
  int32_t* tokens_ = nullptr;
  int mostTokens_ = 0;
  uint32_t written_ = 0;
  bool isChanged_ = false;
};

}  // namespace cellbatch
