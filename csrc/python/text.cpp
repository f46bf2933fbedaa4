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
std::size_t utf8_bytes(std::span<const Character> characters) {
  std::size_t bytes = 0;
  for (const std::uint32_t c : characters) bytes += 1U + (c >= 0x80U) + (c >= 0x800U) + (c >= 0x10000U);
  return bytes;
}

template <typename Character>
Excerpt transcode(const void* data, std::size_t length, const ReadLimits& limits, std::string& scratch) {
  const std::span<const Character> all(static_cast<const Character*>(data), length);
  const bool is_whole = length <= limits.whole;
  const std::span<const Character> head = is_whole ? all : all.first(limits.head());
  const std::span<const Character> tail = is_whole ? all.first(0) : all.last(limits.tail);
  const std::size_t head_bytes = utf8_bytes(head);
  const std::size_t tail_bytes = utf8_bytes(tail);
  scratch.resize(head_bytes + tail_bytes);
  char* end = scratch.data();
  for (const std::uint32_t c : head) end = write_utf8(c, end);
  for (const std::uint32_t c : tail) end = write_utf8(c, end);
  std::size_t bytes = head_bytes + (length - head.size());
  // Only for the length of a text whose end is read, the whole of a huge text is looked at.
  if (!is_whole && limits.tail > 0) bytes = utf8_bytes(all);
  const std::string_view written(scratch);
  return {written.substr(0, head_bytes), written.substr(head_bytes), bytes};
}

// A list or tuple as it is. Whatever else texts may come in, one function of the package knows, for all embedders and
// routers alike; it returns a list.
py::object listed(py::handle texts) {
  if (PyList_Check(texts.ptr()) || PyTuple_Check(texts.ptr())) return py::reinterpret_borrow<py::object>(texts);
  return py::module_::import("routellm_fast.texts").attr("check_texts")(texts);
}

}  // namespace

Excerpt utf8_of(PyObject* text, const ReadLimits& limits, std::string& scratch) {
  const auto length = static_cast<std::size_t>(PyUnicode_GET_LENGTH(text));
  const void* data = PyUnicode_DATA(text);
  if (PyUnicode_IS_COMPACT_ASCII(text)) {
    const std::string_view all(static_cast<const char*>(data), length);
    if (length <= limits.whole) return Excerpt::of(all);
    return {all.substr(0, limits.head()), all.substr(length - limits.tail), length};
  }
  switch (PyUnicode_KIND(text)) {
    case PyUnicode_1BYTE_KIND:
      return transcode<Py_UCS1>(data, length, limits, scratch);
    case PyUnicode_2BYTE_KIND:
      return transcode<Py_UCS2>(data, length, limits, scratch);
    default:
      return transcode<Py_UCS4>(data, length, limits, scratch);
  }
}

[[noreturn]] void throw_not_text(py::handle value, const std::string& where) {
  throw py::type_error(where + " must be str, not " + std::string(Py_TYPE(value.ptr())->tp_name) +
                       ". Chat messages become text with routellm_fast.prompt.text_of().");
}

HeldTexts::HeldTexts(py::handle texts, const ReadLimits& limits) : items_(listed(texts)) {
  const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items_.ptr()));
  texts_.reserve(count);
  held_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(items_.ptr(), static_cast<Py_ssize_t>(i));
    if (!PyUnicode_Check(item)) throw_not_text(item, "text " + std::to_string(i));
    // A list may be changed by another thread once the lock is released: hold each text.
    held_.push_back(py::reinterpret_borrow<py::object>(item));
    if (PyUnicode_IS_COMPACT_ASCII(item) == 0) transcoded_.emplace_back();
    std::string unused;
    texts_.push_back(utf8_of(item, limits, transcoded_.empty() ? unused : transcoded_.back()));
    bytes_ += texts_.back().head.size() + texts_.back().tail.size();
  }
}

}  // namespace routellm_fast
