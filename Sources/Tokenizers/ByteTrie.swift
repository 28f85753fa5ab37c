/// A compact trie over byte strings with a value each: 9 bytes of memory a node, at most one node a byte.
///
/// Nodes are in order of depth, so the children of a node are neighbours, in order of their bytes.
package struct ByteTrie: Sendable {
  /// The byte on the edge into each node; the root comes first.
  private var bytes: [UInt8] = [0]
  /// The first child of each node, and the number of nodes; a node's children end where those of the next one start.
  private var firstChild: [Int32] = []
  /// The value of each node, or -1.
  private var values: [Int32] = [-1]

  /// - Parameter entries: Strings and values from 0; of equal strings the last one is used.
  ///
  /// Cost: O(n log n) in the total length of the strings.
  package init(_ entries: [(bytes: [UInt8], value: Int32)]) {
    let sorted = entries.enumerated().sorted { left, right in
      if left.element.bytes.lexicographicallyPrecedes(right.element.bytes) { return true }
      return left.offset < right.offset && left.element.bytes == right.element.bytes
    }.map(\.element)
    // The entries below each node of one depth.
    var level = [0..<sorted.count]
    var depth = 0
    while !level.isEmpty {
      var next: [Range<Int>] = []
      for entries in level {
        let node = firstChild.count
        firstChild.append(Int32(bytes.count))
        var start = entries.lowerBound
        while start < entries.upperBound, sorted[start].bytes.count == depth {
          values[node] = sorted[start].value
          start += 1
        }
        while start < entries.upperBound {
          let byte = sorted[start].bytes[depth]
          let end = sorted[start..<entries.upperBound].firstIndex { $0.bytes[depth] != byte } ?? entries.upperBound
          bytes.append(byte)
          values.append(-1)
          next.append(start..<end)
          start = end
        }
      }
      level = next
      depth += 1
    }
    firstChild.append(Int32(bytes.count))
  }

  /// Bytes of memory.
  package var byteCount: Int { bytes.count + 4 * (firstChild.count + values.count) }

  /// The longest string that `text` has at a position, by its value and its end; nil if there is none.
  package func longestMatch(in text: ArraySlice<UInt8>, at start: Int) -> (value: Int32, end: Int)? {
    var match: (Int32, Int)? = nil
    var (node, position) = (0, start)
    while position < text.endIndex, let child = child(of: node, text[position]) {
      node = child
      position += 1
      if values[node] >= 0 { match = (values[node], position) }
    }
    return match
  }

  /// The value of a whole string; nil if it is not in the trie.
  package subscript(text: ArraySlice<UInt8>) -> Int32? {
    guard let match = longestMatch(in: text, at: text.startIndex), match.end == text.endIndex else { return nil }
    return match.value
  }

  private func child(of node: Int, _ byte: UInt8) -> Int? {
    let end = Int(firstChild[node + 1])
    var (low, high) = (Int(firstChild[node]), end)
    while low < high {
      let middle = (low + high) / 2
      if bytes[middle] < byte { low = middle + 1 } else { high = middle }
    }
    return low < end && bytes[low] == byte ? low : nil
  }
}
