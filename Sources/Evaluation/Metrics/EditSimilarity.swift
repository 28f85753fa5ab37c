/// ANLS: how near an answer is to the nearest of the right ones, 0 to 1, in edits.
///
/// Case and runs of white space do not matter; the distance is divided by the longer of the two as they were given, and what
/// is less than half alike counts nothing.
///
/// Source: Biten et al. 2019, Scene text visual question answering, as DocVQA's evaluation applies it.
package func editSimilarity(_ answer: String, _ references: [String]) -> Double {
  let distances = references.map { reference in
    let longer = max(answer.unicodeScalars.count, reference.unicodeScalars.count)
    return longer == 0 ? 0 : Double(editDistance(collapsed(answer), collapsed(reference))) / Double(longer)
  }
  let similarity = 1 - (distances.min() ?? 1)
  return similarity < 0.5 ? 0 : similarity
}

/// In small letters, with one space wherever white space was.
private func collapsed(_ text: String) -> [Unicode.Scalar] {
  Array(text.lowercased().split { $0.isWhitespace }.joined(separator: " ").unicodeScalars)
}

/// Fewest insertions, deletions and replacements that make one text the other.
///
/// Source: Levenshtein 1966; cost `a.count * b.count`.
func editDistance(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) -> Int {
  var row = Array(0...b.count)
  for (i, scalar) in a.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, other) in b.enumerated() {
      let replaced = diagonal + (scalar == other ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(replaced, diagonal + 1, row[j] + 1)
    }
  }
  return row[b.count]
}
