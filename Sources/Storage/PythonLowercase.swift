extension String {
  /// The text in lower case as Python's `str.lower`: by Unicode without locale, with a final sigma at the end of a word.
  ///
  /// `lowercased()` has no final sigma.
  package var pythonLower: String {
    guard unicodeScalars.contains("Σ") else { return lowercased() }
    let scalars = Array(unicodeScalars)
    var result = ""
    // Whether the last scalar that is not case-ignorable is cased.
    var followsCased = false
    // For each scalar, whether the next one that is not case-ignorable is cased.
    var precedesCased = Array(repeating: false, count: scalars.count)
    var isCased = false
    for i in scalars.indices.reversed() {
      precedesCased[i] = isCased
      if !scalars[i].properties.isCaseIgnorable { isCased = scalars[i].properties.isCased }
    }
    for (i, scalar) in scalars.enumerated() {
      if scalar == "Σ" {
        result += followsCased && !precedesCased[i] ? "ς" : "σ"
      } else {
        result += scalar.properties.lowercaseMapping
      }
      if !scalar.properties.isCaseIgnorable { followsCased = scalar.properties.isCased }
    }
    return result
  }
}
