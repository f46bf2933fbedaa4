#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace routellm_fast {

/// A piece's bytes, without the continuing prefix, and its id (below 2^31).
struct Piece {
  std::string_view bytes;
  std::uint32_t id = 0;
};

/// Splits words greedily into their longest known pieces, in time linear in the word: LinMaxMatch (Song, Salcianu,
/// Song, Dopson, Zhou: "Fast WordPiece Tokenization", EMNLP 2021). A node of the trie stands for the bytes since the
/// last piece that is certain. Where no child has the next byte, the node's failure link says which pieces are certain
/// by now and which node stands for the bytes behind them. Bytes serve as well as characters: UTF-8 is a prefix code.
class PieceMatcher {
  // A double array: the child of node n for a byte is nodes_[n.base ^ byte], if that node's parent is n. All a step
  // needs lies in 16 bytes.
  struct Node {
    std::uint32_t base = 0;
    std::uint32_t parent = kFree;
    std::uint32_t failure = kDeadEnd;
    std::uint32_t pieces = 0;  // kSinglePiece | id, or where the list begins: its length, then its ids
  };
  struct Edge {
    std::uint32_t parent;
    std::uint32_t child;
    std::uint32_t id;  // of the piece that ends at the child, or kNoPiece
    std::size_t depth;
    unsigned char byte;
  };
  class SlotAllocator;

  static constexpr std::uint32_t kInitialRoot = 0;
  static constexpr std::uint32_t kContinuingRoot = 1;
  static constexpr std::uint32_t kDeadEnd = 2;  // a node without children whose failure link leads to itself
  static constexpr std::uint32_t kReservedNodes = 3;
  static constexpr std::uint32_t kFree = 0xFFFFFFFF;
  static constexpr std::uint32_t kNoPiece = 0xFFFFFFFF;
  static constexpr std::uint32_t kSinglePiece = 0x80000000;

 public:
  /// Takes the pieces that begin a word and those that continue one. Each list must be sorted by bytes, without empty
  /// or repeated pieces.
  PieceMatcher(std::span<const Piece> initial, std::span<const Piece> continuing) {
    const std::vector<Edge> edges = build_trie(initial, continuing);
    build_links(edges);
  }

  /// The walk of one word through the trie. Ids that do not fit the output are counted only: whether the word can be
  /// split at all is known only at its end.
  class Walk {
   public:
    Walk(const PieceMatcher& matcher, std::span<std::uint32_t> ids) noexcept
        : nodes_(matcher.nodes_.data()), piece_lists_(matcher.piece_lists_.data()), ids_(ids) {}

    void push(unsigned char byte) noexcept {
      while (true) {
        const std::uint32_t child = nodes_[node_].base ^ byte;
        if (nodes_[child].parent == node_) {
          node_ = child;
          return;
        }
        if (!follow_failure()) return;
      }
    }

    /// The number of pieces, or 0 for a word that cannot be split.
    [[nodiscard]] std::size_t finish() noexcept {
      while (node_ != kContinuingRoot) {
        if (!follow_failure()) return 0;
      }
      return count_;
    }

   private:
    bool follow_failure() noexcept {
      const Node& node = nodes_[node_];
      node_ = node.failure;
      if (node.failure == kDeadEnd) return false;
      if ((node.pieces & kSinglePiece) != 0) {
        write(node.pieces & ~kSinglePiece);
      } else {
        const std::uint32_t* list = piece_lists_ + node.pieces;
        for (std::uint32_t i = 1; i <= list[0]; ++i) write(list[i]);
      }
      return true;
    }

    void write(std::uint32_t id) noexcept {
      if (count_ < ids_.size()) ids_[count_] = id;
      ++count_;
    }

    const Node* nodes_;
    const std::uint32_t* piece_lists_;
    std::span<std::uint32_t> ids_;
    std::uint32_t node_ = kInitialRoot;
    std::size_t count_ = 0;
  };

 private:
  std::vector<Edge> build_trie(std::span<const Piece> initial, std::span<const Piece> continuing);
  void build_links(std::span<const Edge> edges);
  [[nodiscard]] std::uint32_t child(std::uint32_t node, unsigned char byte) const noexcept;
  void append_pieces(std::uint32_t node, std::vector<std::uint32_t>& pieces) const;

  std::vector<Node> nodes_;
  std::vector<std::uint32_t> piece_lists_;
};

/// Finds room for the children of a node. Slots come in blocks of 256, so that base ^ byte stays within its base's
/// block.
class PieceMatcher::SlotAllocator {
 public:
  explicit SlotAllocator(std::vector<Node>& nodes) : nodes_(nodes) {
    add_block();
    for (std::uint32_t slot = 0; slot < kReservedNodes; ++slot) take(slot);
  }

  /// Returns a base such that base ^ byte is free for all bytes, and marks these slots as used.
  std::uint32_t place(std::span<const unsigned char> bytes) {
    for (std::uint32_t slot = first_;; slot = links_[slot].next) {
      if (slot == kNone) slot = add_block();
      const std::uint32_t base = slot ^ bytes.front();
      const auto is_free = [this, base](unsigned char byte) { return links_[base ^ byte].free; };
      if (!std::ranges::all_of(bytes, is_free)) continue;
      for (const unsigned char byte : bytes) take(base ^ byte);
      return base;
    }
  }

 private:
  struct Link {
    std::uint32_t previous = kNone;
    std::uint32_t next = kNone;
    bool free = false;
  };
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  static constexpr std::uint32_t kBlockSize = 256;
  static constexpr std::uint32_t kOpenBlocks = 16;  // older blocks are left as they are, so that a search stays short

  std::uint32_t add_block() {
    const auto begin = static_cast<std::uint32_t>(links_.size());
    nodes_.resize(begin + kBlockSize);
    links_.resize(begin + kBlockSize);
    for (std::uint32_t slot = begin; slot < begin + kBlockSize; ++slot) {
      links_[slot] = {.previous = last_, .next = kNone, .free = true};
      (last_ == kNone ? first_ : links_[last_].next) = slot;
      last_ = slot;
    }
    if (begin >= kOpenBlocks * kBlockSize) {
      const std::uint32_t closed = begin - kOpenBlocks * kBlockSize;
      for (std::uint32_t slot = closed; slot < closed + kBlockSize; ++slot) {
        if (links_[slot].free) take(slot);
      }
    }
    return begin;
  }

  void take(std::uint32_t slot) {
    Link& link = links_[slot];
    (link.previous == kNone ? first_ : links_[link.previous].next) = link.next;
    (link.next == kNone ? last_ : links_[link.next].previous) = link.previous;
    link.free = false;
  }

  std::vector<Node>& nodes_;
  std::vector<Link> links_;
  std::uint32_t first_ = kNone;
  std::uint32_t last_ = kNone;
};

inline std::vector<PieceMatcher::Edge> PieceMatcher::build_trie(std::span<const Piece> initial,
                                                                std::span<const Piece> continuing) {
  struct Subtree {
    std::uint32_t root;
    std::size_t depth;
    std::span<const Piece> pieces;  // all begin with the root's bytes, and none ends there
  };
  SlotAllocator slots(nodes_);
  std::vector<Edge> edges;
  std::vector<Subtree> open{
      {.root = kContinuingRoot, .depth = 0, .pieces = continuing},
      {.root = kInitialRoot, .depth = 0, .pieces = initial},
  };
  // Depth first, so that the nodes of a rare ending lie side by side and a walk along it misses the cache once.
  while (!open.empty()) {
    const Subtree tree = open.back();
    open.pop_back();
    if (tree.pieces.empty()) continue;
    const auto byte_of = [&tree](const Piece& piece) { return static_cast<unsigned char>(piece.bytes[tree.depth]); };
    std::vector<unsigned char> bytes;
    for (const Piece& piece : tree.pieces) {
      if (bytes.empty() || bytes.back() != byte_of(piece)) bytes.push_back(byte_of(piece));
    }
    const std::uint32_t base = slots.place(bytes);
    nodes_[tree.root].base = base;
    auto begin = tree.pieces.begin();
    for (const unsigned char byte : bytes) {
      const auto end =
          std::find_if(begin, tree.pieces.end(), [&](const Piece& piece) { return byte_of(piece) != byte; });
      const std::uint32_t child = base ^ byte;
      nodes_[child].parent = tree.root;
      const bool ends = begin->bytes.size() == tree.depth + 1;
      edges.push_back(
          {.parent = tree.root, .child = child, .id = ends ? begin->id : kNoPiece, .depth = tree.depth, .byte = byte});
      open.push_back({.root = child, .depth = tree.depth + 1, .pieces = {begin + (ends ? 1 : 0), end}});
      begin = end;
    }
  }
  // Failure links lead to nodes of smaller depth, in either trie, which have to be linked first.
  std::ranges::stable_sort(edges, {}, &Edge::depth);
  return edges;
}

inline void PieceMatcher::build_links(std::span<const Edge> edges) {
  std::vector<std::uint32_t> pieces;
  for (const Edge& edge : edges) {
    Node& node = nodes_[edge.child];
    if (edge.id != kNoPiece) {
      node.failure = kContinuingRoot;
      node.pieces = kSinglePiece | edge.id;
      continue;
    }
    // The longest piece that ends above this node is certain, and so is all that follows from the bytes behind it until
    // a node is reached that has a child for the last byte.
    pieces.clear();
    std::uint32_t from = edge.parent;
    std::uint32_t target = kDeadEnd;
    while (target == kDeadEnd && nodes_[from].failure != kDeadEnd) {
      append_pieces(from, pieces);
      from = nodes_[from].failure;
      target = child(from, edge.byte);
    }
    node.failure = target;
    if (target == kDeadEnd) continue;
    if (pieces.size() == 1) {
      node.pieces = kSinglePiece | pieces.front();
    } else {
      node.pieces = static_cast<std::uint32_t>(piece_lists_.size());
      piece_lists_.push_back(static_cast<std::uint32_t>(pieces.size()));
      piece_lists_.insert(piece_lists_.end(), pieces.begin(), pieces.end());
    }
  }
}

inline std::uint32_t PieceMatcher::child(std::uint32_t node, unsigned char byte) const noexcept {
  const std::uint32_t slot = nodes_[node].base ^ byte;
  return nodes_[slot].parent == node ? slot : kDeadEnd;
}

inline void PieceMatcher::append_pieces(std::uint32_t node, std::vector<std::uint32_t>& pieces) const {
  const std::uint32_t entry = nodes_[node].pieces;
  if ((entry & kSinglePiece) != 0) {
    pieces.push_back(entry & ~kSinglePiece);
    return;
  }
  const auto list = piece_lists_.begin() + entry;
  pieces.insert(pieces.end(), list + 1, list + 1 + *list);
}

}  // namespace routellm_fast
