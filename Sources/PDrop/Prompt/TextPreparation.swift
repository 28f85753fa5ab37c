internal import Foundation
import ModelFormats

extension TextPreparation {
  /// The bytes of `▁`, which stands for a space in pieces.
  static let space: [UInt8] = [0xE2, 0x96, 0x81]

  /// A stretch of text as the pieces spell it.
  ///
  /// - Parameter isBeginning: Whether the stretch starts the whole text.
  func prepare(_ text: ArraySlice<UInt8>, isBeginning: Bool) -> [UInt8] {
    var text = collapsesSpaces ? Self.collapse(text) : text
    if composes { text = Array(String(decoding: text, as: UTF8.self).precomposedStringWithCanonicalMapping.utf8)[...] }
    guard let first = text.first else { return [] }
    let space = isByteLevel ? [0x20] : Self.space
    let startsWithSpace = first == 0x20 || text.starts(with: space)
    let hasPrefix =
      switch prefix {
      case .always: true
      case .unlessPresent: !startsWithSpace
      case .first: isBeginning && !startsWithSpace
      case .never: false
      }
    var prepared = hasPrefix ? space : []
    prepared.reserveCapacity(text.count + text.count / 2)
    for byte in text {
      if byte == 0x20 { prepared += space } else { prepared.append(byte) }
    }
    return prepared
  }

  /// As SentencePiece does it: at the end a `▁` of the text itself goes with the spaces.
  private static func collapse(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var text = Array(text.split(separator: 0x20).joined(separator: [0x20]))[...]
    while true {
      if text.last == 0x20 {
        text = text.dropLast()
      } else if text.suffix(space.count).elementsEqual(space) {
        text = text.dropLast(space.count)
      } else {
        return text
      }
    }
  }
}
