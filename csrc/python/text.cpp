#include "python/text.hpp"

#include <algorithm>
#include <cstdint>
#include <span>

namespace routellm_fast {
namespace {

// Writes one character and returns the place behind it.
char* write_utf8(std::uint32_t c, char* out) {
  if (c < 0x80) {
    *out++ = static_cast<char>(c);
    return out;
  }
  // A lone surrogate is no character: like every invalid sequence it becomes U+FFFD, which tokenizers drop.
  if (c >= 0xD800 && c <= 0xDFFF) c = 0xFFFD;
  if (c < 0x800) {
    *out++ = static_cast<char>(0xC0 | (c >> 6));
  } else {
    if (c < 0x10000) {
      *out++ = static_cast<char>(0xE0 | (c >> 12));
    } else {
      *out++ = static_cast<char>(0xF0 | (c >> 18));
      *out++ = static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    }
    *out++ = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
  }
  *out++ = static_cast<char>(0x80 | (c & 0x3F));
  return out;
}

template <typename Character>
std::string_view transcode(const void* data, std::size_t length, std::string& scratch) {
  const std::span<const Character> characters(static_cast<const Character*>(data), length);
  std::size_t bytes = 0;
  for (const std::uint32_t c : characters) bytes += 1U + (c >= 0x80U) + (c >= 0x800U) + (c >= 0x10000U);
  scratch.resize(bytes);
  char* end = scratch.data();
  for (const std::uint32_t c : characters) end = write_utf8(c, end);
  return scratch;
}

// A list or tuple as it is. Whatever else texts may come in, one function of the package knows, for all embedders and
// routers alike; it returns a list.
py::object listed(py::handle texts) {
  if (PyList_Check(texts.ptr()) || PyTuple_Check(texts.ptr())) return py::reinterpret_borrow<py::object>(texts);
  return py::module_::import("routellm_fast.texts").attr("check_texts")(texts);
}

}  // namespace

std::string_view utf8_of(PyObject* text, std::size_t max_code_points, std::string& scratch) {
  const std::size_t length = std::min(static_cast<std::size_t>(PyUnicode_GET_LENGTH(text)), max_code_points);
  const void* data = PyUnicode_DATA(text);
  if (PyUnicode_IS_COMPACT_ASCII(text)) return {static_cast<const char*>(data), length};
  switch (PyUnicode_KIND(text)) {
    case PyUnicode_1BYTE_KIND:
      return transcode<Py_UCS1>(data, length, scratch);
    case PyUnicode_2BYTE_KIND:
      return transcode<Py_UCS2>(data, length, scratch);
    default:
      return transcode<Py_UCS4>(data, length, scratch);
  }
}

[[noreturn]] void throw_not_text(py::handle value, const std::string& where) {
  throw py::type_error(where + " must be str, not " + std::string(Py_TYPE(value.ptr())->tp_name) +
                       ". Chat messages become text with routellm_fast.prompt.text_of().");
}

HeldTexts::HeldTexts(py::handle texts, std::size_t max_code_points) : items_(listed(texts)) {
  const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items_.ptr()));
  views_.reserve(count);
  held_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(items_.ptr(), static_cast<Py_ssize_t>(i));
    if (!PyUnicode_Check(item)) throw_not_text(item, "text " + std::to_string(i));
    // A list may be changed by another thread once the lock is released: hold each text.
    held_.push_back(py::reinterpret_borrow<py::object>(item));
    if (PyUnicode_IS_COMPACT_ASCII(item) == 0) transcoded_.emplace_back();
    std::string unused;
    views_.push_back(utf8_of(item, max_code_points, transcoded_.empty() ? unused : transcoded_.back()));
    bytes_ += views_.back().size();
  }
}

}  // namespace routellm_fast
