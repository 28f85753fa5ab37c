import Storage

/// Python's other case mappings, which are those of Unicode without locale.
extension String {
  var pythonUpper: String { uppercaseMapping { $0.properties.uppercaseMapping } }

  private func uppercaseMapping(_ mapping: (Unicode.Scalar) -> String) -> String {
    var result = ""
    result.reserveCapacity(utf8.count)
    for scalar in unicodeScalars { result += mapping(scalar) }
    return result
  }

  /// The first code point in title case, the others in lower case.
  var pythonCapitalized: String {
    guard let first = unicodeScalars.first else { return "" }
    // The case of a sigma depends on what is before it.
    return first.properties.titlecaseMapping
      + String(
        pythonLower.unicodeScalars.dropFirst(
          String(Character(first)).pythonLower.unicodeScalars.count))
  }

  /// Each run of cased code points with the first in title case.
  var pythonTitle: String {
    let lower = pythonLower
    guard lower.unicodeScalars.count == unicodeScalars.count else { return titleByScalar }
    var result = ""
    var isInWord = false
    for (scalar, lower) in zip(unicodeScalars, lower.unicodeScalars) {
      result += isInWord ? String(Character(lower)) : scalar.properties.titlecaseMapping
      isInWord = scalar.properties.isCased
    }
    return result
  }

  private var titleByScalar: String {
    var result = ""
    var isInWord = false
    for scalar in unicodeScalars {
      result += isInWord ? scalar.properties.lowercaseMapping : scalar.properties.titlecaseMapping
      isInWord = scalar.properties.isCased
    }
    return result
  }

  var pythonSwappedCase: String {
    uppercaseMapping { scalar in
      scalar.properties.isUppercase
        ? scalar.properties.lowercaseMapping
        : scalar.properties.isLowercase ? scalar.properties.uppercaseMapping : String(Character(scalar))
    }
  }

  /// What Jinja's filter `title` makes: the words after `-`, brackets and whitespace begin in upper case.
  var jinjaTitle: String {
    var result = ""
    var word = String.UnicodeScalarView()
    func finished(_ word: String.UnicodeScalarView) -> String {
      guard let first = word.first else { return "" }
      return first.properties.uppercaseMapping + String(word.dropFirst()).pythonLower
    }
    for scalar in unicodeScalars {
      if Whitespace.contains(scalar) || ["-", "(", "{", "[", "<"].contains(scalar) {
        result += finished(word)
        word = .init()
        result.unicodeScalars.append(scalar)
      } else {
        word.append(scalar)
      }
    }
    return result + finished(word)
  }

  /// Python's `islower` or `isupper`: some cased code points, and all of them of this case.
  func isCased(upper: Bool) -> Bool {
    var hasCased = false
    for scalar in unicodeScalars {
      let properties = scalar.properties
      let isTitle = properties.generalCategory == .titlecaseLetter
      if isTitle || (upper ? properties.isLowercase : properties.isUppercase) { return false }
      if upper ? properties.isUppercase : properties.isLowercase { hasCased = true }
    }
    return hasCased
  }
}
