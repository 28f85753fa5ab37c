/// Why the tokenizer files of a checkpoint cannot be used.
package enum VocabularyError: Error, Equatable {
  /// Neither `tokenizer.json` nor `tokenizer.model` is there.
  case missing(directory: String)
  case unreadable(file: String, reason: String)
  case notFetched(file: String)
  case tooLarge(file: String, byteCount: Int, limit: Int)
  case malformed(file: String, offset: Int, expected: String)
  case missingField(file: String, field: String, expected: String)

  /// A kind of tokenizer that this engine does not have.
  case unsupported(file: String, part: String, found: String)
  case idOutOfRange(file: String, piece: String, id: String, limit: Int)
  case duplicateID(file: String, id: Int, pieces: [String])
  case duplicatePiece(file: String, piece: String)
  case unknownPiece(file: String, piece: String, neededFor: String)
}

extension VocabularyError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .missing(let directory):
      "\(directory): expected tokenizer.json or tokenizer.model, found neither"
    case .unreadable(let file, let reason):
      "\(file): cannot be read: \(quoted(reason))"
    case .notFetched(let file):
      "\(file): \(FilePointer.reason)"
    case .tooLarge(let file, let byteCount, let limit):
      "\(file): expected at most \(limit) bytes, found \(byteCount)"
    case .malformed(let file, let offset, let expected):
      "\(file): expected \(expected) at byte \(offset)"
    case .missingField(let file, let field, let expected):
      "\(file): expected \(expected) in \(quoted(field))"
    case .unsupported(let file, let part, let found):
      "\(file): \(part) \(quoted(found)) is not supported"
    case .idOutOfRange(let file, let piece, let id, let limit):
      "\(file): expected the id of \(quoted(piece)) in 0..<\(limit), found \(id.prefix(60))"
    case .duplicateID(let file, let id, let pieces):
      "\(file): id \(id) is given to \(pieces.map(quoted).joined(separator: " and "))"
    case .duplicatePiece(let file, let piece):
      "\(file): piece \(quoted(piece)) is listed twice"
    case .unknownPiece(let file, let piece, let use):
      "\(file): \(use) needs piece \(quoted(piece)), which is not in the vocabulary"
    }
  }

  /// The text in quotation marks, on one line, and cut where it is too long to be read.
  private func quoted(_ text: String) -> String {
    (text.count > 60 ? text.prefix(60) + "…" : text).debugDescription
  }
}
