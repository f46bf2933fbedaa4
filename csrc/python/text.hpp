#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <deque>
#include <string>
#include <vector>

#include "text/excerpt.hpp"

namespace routellm_fast {

namespace py = pybind11;

/// What is read of a str, as valid UTF-8. Python keeps a str in 1, 2 or 4 bytes a character. ASCII is UTF-8 already and
/// is borrowed; the rest is transcoded into `scratch`, and only what will be read: PyUnicode_AsUTF8 would convert, and
/// keep, all of a huge string. A lone surrogate becomes U+FFFD. Where no end is read apart, `bytes` of a text that is
/// longer than what is read is only known to be more than that.
[[nodiscard]] Excerpt utf8_of(PyObject* text, const ReadLimits& limits, std::string& scratch);

[[noreturn]] void throw_not_text(py::handle value, const std::string& where);

// A batch of texts as UTF-8: views into Python's own strings where they are ASCII, else into `transcoded`.
class HeldTexts {
 public:
  // Takes any object, so that the message about one that holds no texts is this package's own. Throws TypeError.
  HeldTexts(py::handle texts, const ReadLimits& limits);

  [[nodiscard]] const std::vector<Excerpt>& texts() const { return texts_; }
  /// How much of them is read.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  py::object items_;
  std::vector<py::object> held_;
  std::deque<std::string> transcoded_;  // a deque: views stay valid while it grows
  std::vector<Excerpt> texts_;
  std::size_t bytes_ = 0;
};

}  // namespace routellm_fast
