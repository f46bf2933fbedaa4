#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace routellm_fast {

namespace py = pybind11;

/// Python keeps a str in 1, 2 or 4 bytes a character. ASCII is UTF-8 already and is borrowed; the rest is transcoded
/// into `scratch`, and only as far as it will be read: PyUnicode_AsUTF8 would convert, and keep, all of a huge string.
/// A lone surrogate becomes U+FFFD. The text is valid UTF-8.
[[nodiscard]] std::string_view utf8_of(PyObject* text, std::size_t max_code_points, std::string& scratch);

[[noreturn]] void throw_not_text(py::handle value, const std::string& where);

// A batch of texts as UTF-8: views into Python's own strings where they are ASCII, else into `transcoded`.
class HeldTexts {
 public:
  // Takes any object, so that the message about one that holds no texts is this package's own. Throws TypeError.
  HeldTexts(py::handle texts, std::size_t max_code_points);

  [[nodiscard]] const std::vector<std::string_view>& views() const { return views_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  py::object items_;
  std::vector<py::object> held_;
  std::deque<std::string> transcoded_;  // a deque: views stay valid while it grows
  std::vector<std::string_view> views_;
  std::size_t bytes_ = 0;
};

}  // namespace routellm_fast
