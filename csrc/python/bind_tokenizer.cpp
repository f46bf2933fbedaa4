#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "directory/tokenizer_json.hpp"
#include "python/subjects.hpp"
#include "python/text.hpp"
#include "text/wordpiece_tokenizer.hpp"

namespace routellm_fast {

void bind_tokenizer(py::module_& m) {
  py::class_<WordPieceTokenizer, std::shared_ptr<WordPieceTokenizer>>(
      m, "WordPieceTokenizer", "BERT's tokenizer: text to token ids, equal to Hugging Face's. Immutable, thread-safe.")
      .def(py::init([](const std::vector<std::string>& vocabulary, std::uint32_t unk_id, bool clean_text,
                       bool handle_chinese_chars, bool strip_accents, bool lowercase, std::size_t max_word_chars,
                       const std::string& continuing_prefix,
                       const std::vector<std::pair<std::string, std::uint32_t>>& added_tokens) {
             std::vector<AddedToken> added;
             added.reserve(added_tokens.size());
             for (const auto& [content, id] : added_tokens) added.push_back({content, id});
             const WordPieceOptions options{.clean_text = clean_text,
                                            .handle_chinese_chars = handle_chinese_chars,
                                            .strip_accents = strip_accents,
                                            .lowercase = lowercase,
                                            .unk_id = unk_id,
                                            .max_word_chars = max_word_chars,
                                            .continuing_prefix = continuing_prefix};
             return std::make_shared<WordPieceTokenizer>(vocabulary, options, added);
           }),
           py::arg("vocabulary"), py::kw_only(), py::arg("unk_id"), py::arg("clean_text") = true,
           py::arg("handle_chinese_chars") = true, py::arg("strip_accents") = true, py::arg("lowercase") = true,
           py::arg("max_word_chars") = 100, py::arg("continuing_prefix") = "##",
           py::arg("added_tokens") = std::vector<std::pair<std::string, std::uint32_t>>{})
      .def_property_readonly("vocabulary_size", &WordPieceTokenizer::vocabulary_size)
      .def(
          "encode",
          [](const WordPieceTokenizer& self, py::handle text, std::optional<std::size_t> max_tokens) {
            std::string scratch;
            std::string_view view;
            if (PyUnicode_Check(text.ptr())) {
              view = utf8_of(text.ptr(), {.whole = static_cast<std::size_t>(-1), .tail = 0}, scratch).head;
            } else if (py::isinstance<py::bytes>(text)) {
              view = {PyBytes_AS_STRING(text.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(text.ptr()))};
            } else {
              throw_not_text(text, "text");
            }
            // A byte makes at most one token, but an added token never more than its bytes: size() ids always suffice.
            // One spare, so that an uncapped read is not taken for one that the cap stopped.
            std::vector<std::uint32_t> ids(
                std::min(max_tokens.value_or(static_cast<std::size_t>(-1)), view.size() + 1));
            const std::size_t count = self.encode(view, ids).token_count;
            return py::array_t<std::uint32_t>(static_cast<py::ssize_t>(count), ids.data());
          },
          py::arg("text"), py::arg("max_tokens") = py::none(),
          "Token ids, uint32, at most max_tokens. bytes are read as UTF-8, invalid sequences as U+FFFD.");

  m.def(
      "read_tokenizer_json",
      [](std::string_view content) {
        const TokenizerFile file = read_tokenizer_json(content);
        return py::make_tuple(std::const_pointer_cast<WordPieceTokenizer>(file.tokenizer), file.unknown_token);
      },
      py::arg("content"),
      "The tokenizer of a tokenizer.json, None where it is not of BERT's WordPiece kind, and the id of its unknown "
      "token, None where it has none.");
}

}  // namespace routellm_fast
