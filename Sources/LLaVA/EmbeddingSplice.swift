package import Kernels

/// Why a prompt and its pictures do not make a sequence.
package enum SequenceError: Error, Equatable, CustomStringConvertible {
  case placeholderMismatch(placeholders: Int, pictures: Int)
  case tokenOutOfRange(token: Int, vocabularySize: Int)
  case tooLong(length: Int, limit: Int)
  case empty

  package var description: String {
    switch self {
    case .placeholderMismatch(let placeholders, 0):
      "the prompt has \(placeholders) <image> but no picture is given; add --image, or take <image> out"
    case .placeholderMismatch(0, let pictures):
      "\(pictures) picture(s) given, but the prompt has no <image>; put <image> where the picture belongs"
    case .placeholderMismatch(let placeholders, let pictures):
      "the prompt has \(placeholders) <image>, but \(pictures) picture(s) are given; there must be one for each"
    case .tokenOutOfRange(let token, let vocabularySize):
      "token \(token) is outside the model's vocabulary of \(vocabularySize); do tokenizer and weights belong together?"
    case .tooLong(let length, let limit):
      "the prompt has \(length) tokens with its pictures, the context only \(limit); shorten it or raise --ctx-size"
    case .empty:
      "the prompt is empty"
    }
  }
}

extension LanguageModel {
  /// Puts a prompt's embeddings into `hidden`, each placeholder replaced by its picture's features.
  ///
  /// - Parameters:
  ///   - hidden: Becomes `[T, D]`.
  ///   - tokens: Text tokens and one placeholder per picture.
  ///   - placeholder: The token that stands for a picture.
  ///   - features: The features of all pictures, one after the other, `[V, D]`.
  ///   - featureCounts: How many rows of `features` belong to each picture.
  ///   - limit: The longest sequence allowed.
  package func splice(
    _ hidden: inout Matrix, tokens: [Int], placeholder: Int, features: borrowing Matrix, featureCounts: [Int],
    limit: Int
  ) throws(SequenceError) -> SequenceLayout {
    let placeholders = tokens.count { $0 == placeholder }
    guard placeholders == featureCounts.count else {
      throw .placeholderMismatch(placeholders: placeholders, pictures: featureCounts.count)
    }
    precondition(featureCounts.reduce(0, +) == features.rows, "splice: \(featureCounts) of \(features.rows) features")
    let length = tokens.count - placeholders + features.rows
    guard length > 0 else { throw .empty }
    guard length <= limit else { throw .tooLong(length: length, limit: limit) }
    hidden.resize(rows: length)

    var spans: [Range<Int>] = []
    var (row, feature) = (0, 0)
    var picture = Matrix(rows: 0, columns: hidden.columns)
    for token in tokens {
      if token == placeholder {
        let count = featureCounts[spans.count]
        picture.assign(features, rows: feature..<feature + count)
        hidden.replaceRows(from: row, with: picture)
        spans.append(row..<row + count)
        (row, feature) = (row + count, feature + count)
      } else {
        guard (0..<embedding.rows).contains(token) else {
          throw .tokenOutOfRange(token: token, vocabularySize: embedding.rows)
        }
        hidden.setRow(row, to: embedding, row: token)
        row += 1
      }
    }
    return SequenceLayout(rowCount: length, visualSpans: spans)
  }

  /// Puts the embeddings of generated tokens into `hidden`, `[tokens, D]`.
  ///
  /// - Precondition: The tokens are the model's own.
  package func embed(_ tokens: [Int], into hidden: inout Matrix) {
    hidden.resize(rows: tokens.count)
    for (row, token) in tokens.enumerated() { hidden.setRow(row, to: embedding, row: token) }
  }
}
