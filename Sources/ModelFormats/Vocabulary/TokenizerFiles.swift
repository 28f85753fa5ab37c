#if canImport(FoundationEssentials)
  package import FoundationEssentials
#else
  package import Foundation
#endif

extension Vocabulary {
  /// Reads the tokenizer of a checkpoint's folder.
  ///
  /// `tokenizer.json` wins over `tokenizer.model` where both exist, as the published libraries prefer it. The side
  /// files `tokenizer_config.json`, `added_tokens.json` and `special_tokens_map.json` are read where they exist: they
  /// add tokens and name those with a part to play.
  ///
  /// - Throws: `VocabularyError`.
  package static func load(directory: URL) throws(VocabularyError) -> Vocabulary {
    let sides = try TokenizerSideFiles(directory: directory)
    if let bytes = try TokenizerFile.bytes("tokenizer.json", in: directory) {
      return try read(tokenizerJSON: bytes, sides: sides)
    }
    if let bytes = try TokenizerFile.bytes("tokenizer.model", in: directory) {
      return try read(sentencePieceModel: bytes, sides: sides)
    }
    throw .missing(directory: directory.path)
  }
}

/// Access to the files of a tokenizer, none of which has a reason to be large.
package enum TokenizerFile {
  package static let byteLimit = 128 << 20

  /// The file's content, or nil where there is no such file.
  package static func bytes(_ name: String, in directory: URL) throws(VocabularyError) -> [UInt8]? {
    let url = directory.appending(path: name)
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    do {
      let size = try FileManager.default.attributesOfItem(atPath: url.path)[.size] as? Int ?? 0
      guard size <= byteLimit else {
        throw VocabularyError.tooLarge(file: name, byteCount: size, limit: byteLimit)
      }
      return [UInt8](try Data(contentsOf: url))
    } catch let error as VocabularyError {
      throw error
    } catch {
      throw .unreadable(file: name, reason: "\(error)")
    }
  }

  /// The file's content as JSON, or nil where there is no such file.
  package static func json(_ name: String, in directory: URL) throws(VocabularyError) -> JSONValue? {
    guard let bytes = try bytes(name, in: directory) else { return nil }
    return try json(name, bytes)
  }

  static func json(_ name: String, _ bytes: [UInt8]) throws(VocabularyError) -> JSONValue {
    do throws(JSONParser.Failure) {
      return try JSONParser.parse(bytes)
    } catch {
      throw .malformed(file: name, offset: error.offset, expected: error.expected)
    }
  }
}
