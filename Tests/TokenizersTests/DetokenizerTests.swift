import TestSupport
import Testing
import Tokenizers

@Suite struct DetokenizerTests {
  private let tokenizer: Tokenizer

  init() throws { tokenizer = try Tokenizer(directory: Goldens.url("tokenizer")) }

  /// A plain decoder over the whole sequence, after the description in the tokenizers library.
  private func plainDecode(_ ids: [Int32], skipSpecialTokens: Bool) -> String {
    var text = ""
    var run: [UInt8] = []
    func flush() {
      text += String(validating: run, as: UTF8.self) ?? run.map { _ in "\u{FFFD}" }.joined()
      run = []
    }
    for id in ids {
      guard let token = tokenizer.pieces(of: [id])[0] else { continue }
      if skipSpecialTokens, [0, 1, 2, 1200, 1201].contains(id) { continue }
      if (3..<259).contains(id) {
        run.append(UInt8(id - 3))
      } else {
        flush()
        text += token.replacing("▁", with: " ")
      }
    }
    flush()
    return text.utf8.first == 0x20 ? String(text.dropFirst()) : text
  }

  @Test(arguments: [true, false])
  func `streams the text that decode returns at once`(skipSpecialTokens: Bool) {
    var generator = SeededGenerator(7)
    let heart = Array("❤️é😀".utf8).map { Int32($0) + 3 }
    for _ in 0..<2000 {
      var ids: [Int32] = []
      for _ in 0..<Int.random(in: 0..<20, using: &generator) {
        switch Int.random(in: 0..<6, using: &generator) {
        case 0: ids += heart.prefix(Int.random(in: 0...heart.count, using: &generator))
        case 1: ids.append(.random(in: 3..<259, using: &generator))
        case 2: ids.append([0, 1, 2, 1200, 1201, 1079, 313, 1300, -1].randomElement(using: &generator) ?? 0)
        default: ids.append(.random(in: 0..<1202, using: &generator))
        }
      }
      var detokenizer = Detokenizer(tokenizer, skipSpecialTokens: skipSpecialTokens)
      var parts = ids.map { detokenizer.push($0) }
      parts.append(detokenizer.finish())
      let expected = plainDecode(ids, skipSpecialTokens: skipSpecialTokens)
      #expect(parts.joined().utf8.elementsEqual(expected.utf8), "\(ids)")
      #expect(tokenizer.decode(ids, skipSpecialTokens: skipSpecialTokens).utf8.elementsEqual(expected.utf8), "\(ids)")
    }
  }

  @Test func `buffers byte tokens until their run ends`() {
    var detokenizer = Detokenizer(tokenizer)
    #expect(detokenizer.push(262) == "a")
    #expect(Array("é".utf8).map { detokenizer.push(Int32($0) + 3) } == ["", ""])
    #expect(detokenizer.push(264) == "é b")
    #expect(detokenizer.push(Int32(0xC3) + 3) == "")
    #expect(detokenizer.push(13) == "")
    #expect(detokenizer.finish() == "\u{FFFD}\u{FFFD}")
    #expect(detokenizer.finish() == "")
  }

  @Test func `removes a space at the beginning only, after skipped tokens`() {
    var detokenizer = Detokenizer(tokenizer)
    #expect([1, 1200, 262, 264, 2].map { detokenizer.push($0) } == ["", "", "a", " b", ""])
  }
}
