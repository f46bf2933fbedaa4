#include "support/json_places.hpp"

namespace routellm_fast::fuzz {
namespace {

// Reads text that is known to be JSON.
class Places {
 public:
  explicit Places(std::string_view text) : text_(text) {}

  std::vector<JsonPlace> found() && {
    (void)value();
    return std::move(found_);
  }

 private:
  void skip_blanks() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }

  // The number of the value's place.
  std::size_t value() {  // NOLINT(misc-no-recursion): golden files are not deep
    skip_blanks();
    const std::size_t number = found_.size();
    found_.push_back({at_, at_, at_, at_});
    if (text_[at_] == '{' || text_[at_] == '[') {
      items(text_[at_] == '{');
    } else if (text_[at_] == '"') {
      string();
    } else {
      at_ = std::min(text_.find_first_of(",]} \t\r\n", at_), text_.size());
    }
    found_[number].end = found_[number].outer_end = at_;
    return number;
  }

  void string() {
    while (text_[++at_] != '"') at_ += text_[at_] == '\\' ? 1 : 0;
    ++at_;
  }

  void items(bool are_members) {  // NOLINT(misc-no-recursion)
    std::size_t after_comma = ++at_;
    bool is_first = true;
    for (skip_blanks(); text_[at_] != '}' && text_[at_] != ']'; skip_blanks()) {
      if (!is_first) after_comma = ++at_;
      const std::size_t key = are_members ? value() : 0;
      skip_blanks();
      if (are_members) ++at_;  // the colon
      const std::size_t item = value();
      skip_blanks();
      // The first one goes with the comma behind it, all others with the comma before them.
      const bool takes_next = is_first && text_[at_] == ',';
      for (const std::size_t place : {item, are_members ? key : item}) {
        found_[place].outer_begin = is_first ? after_comma : after_comma - 1;
        found_[place].outer_end = takes_next ? at_ + 1 : found_[item].end;
      }
      is_first = false;
    }
    ++at_;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::vector<JsonPlace> found_;
};

}  // namespace

std::vector<JsonPlace> json_places(std::string_view text) { return Places(text).found(); }

}  // namespace routellm_fast::fuzz
