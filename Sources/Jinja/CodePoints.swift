/// Python's whitespace, in UTF-8: what `str.isspace` and `\s` accept.
enum Whitespace {
  /// The length of the whitespace character at `place`, 0 if there is another.
  static func length(_ bytes: [UInt8], at place: Int) -> Int { length(bytes[...], at: place) }

  static func length(_ bytes: ArraySlice<UInt8>, at place: Int) -> Int {
    switch bytes[place] {
    case 9...13, 28...32: return 1
    case 0xC2: return place + 1 < bytes.endIndex && [0x85, 0xA0].contains(bytes[place + 1]) ? 2 : 0
    case 0xE1...0xE3:
      guard place + 2 < bytes.endIndex else { return 0 }
      switch (bytes[place], bytes[place + 1], bytes[place + 2]) {
      case (0xE1, 0x9A, 0x80), (0xE2, 0x80, 0x80...0x8A), (0xE2, 0x80, 0xA8), (0xE2, 0x80, 0xA9), (0xE2, 0x80, 0xAF),
        (0xE2, 0x81, 0x9F), (0xE3, 0x80, 0x80):
        return 3
      default: return 0
      }
    default: return 0
    }
  }

  /// The end of the text without its trailing whitespace.
  static func end(of bytes: ArraySlice<UInt8>) -> Int {
    var end = bytes.endIndex
    while end > bytes.startIndex {
      // The start of the last character.
      var start = end - 1
      while start > bytes.startIndex, bytes[start] & 0xC0 == 0x80 { start -= 1 }
      if length(bytes, at: start) != end - start { return end }
      end = start
    }
    return end
  }

  /// The start of the text without its leading whitespace.
  static func start(of bytes: ArraySlice<UInt8>) -> Int {
    var start = bytes.startIndex
    while start < bytes.endIndex {
      let length = length(bytes, at: start)
      if length == 0 { break }
      start += length
    }
    return start
  }

  static func contains(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 9...13, 28...32, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: true
    default: false
    }
  }
}

extension String {
  func hasSameCodePoints(as other: String) -> Bool {
    utf8.count == other.utf8.count && utf8.elementsEqual(other.utf8)
  }

  /// Python's order of strings.
  func precedesByCodePoint(_ other: String) -> Bool { utf8.lexicographicallyPrecedes(other.utf8) }

  init(_ bytes: ArraySlice<UInt8>) { self.init(decoding: bytes, as: UTF8.self) }

  /// The code points as texts.
  var codePoints: [JinjaValue] { unicodeScalars.map { .string(String(Character($0))) } }
}

/// The places of a text in other texts, in linear time.
///
/// Source: Knuth, Morris and Pratt 1977, Fast pattern matching in strings.
struct TextSearch {
  private let needle: [UInt8]
  /// For each prefix of the needle, the length of its longest proper border.
  private let borders: [Int]

  init(_ needle: String) { self.init(Array(needle.utf8)) }

  private init(_ needle: [UInt8]) {
    self.needle = needle
    var borders = [0]
    var length = 0
    for i in self.needle.indices.dropFirst() {
      while length > 0, self.needle[i] != self.needle[length] { length = borders[length - 1] }
      if self.needle[i] == self.needle[length] { length += 1 }
      borders.append(length)
    }
    self.borders = borders
  }

  var count: Int { needle.count }

  /// The starts of the first `limit` occurrences that do not overlap, in ascending order. The needle is not empty.
  func places(in bytes: [UInt8], limit: Int = .max) -> [Int] {
    var places: [Int] = []
    var length = 0
    guard limit > 0 else { return [] }
    for i in bytes.indices {
      while length > 0, bytes[i] != needle[length] { length = borders[length - 1] }
      if bytes[i] == needle[length] { length += 1 }
      if length == needle.count {
        places.append(i + 1 - length)
        if places.count == limit { break }
        length = 0
      }
    }
    return places
  }

  /// The starts of the last `limit` occurrences that do not overlap, counted from the end, in ascending order.
  func lastPlaces(in bytes: [UInt8], limit: Int = .max) -> [Int] {
    let reversed = TextSearch(Array(needle.reversed()))
    return reversed.places(in: bytes.reversed(), limit: limit).reversed().map { bytes.count - $0 - needle.count }
  }

  func isContained(in text: String) -> Bool {
    needle.isEmpty || !places(in: Array(text.utf8), limit: 1).isEmpty
  }
}

extension Unicode.Scalar {
  /// Python's `isdigit` of one code point.
  var isPythonDigit: Bool { properties.numericType == .decimal || properties.numericType == .digit }

  /// Python's `isalpha` of one code point.
  var isPythonLetter: Bool {
    switch properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
    default: false
    }
  }
}
