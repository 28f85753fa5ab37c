import Storage

/// The answer normalization of the VQA benchmarks.
///
/// It keeps the quirks of the published code, because published scores depend on them.
///
/// Source: `EvalAIAnswerProcessor` in LLaVA's `llava/eval/m4c_evaluator.py`, which is MMF's.
package enum AnswerNormalizer {
  private static let punctuation: [Unicode.Scalar] = [
    ";", "/", "[", "]", "\"", "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!",
  ]
  /// The published code passes `re.UNICODE`, which is 32, as the maximum number of replacements.
  private static let maxRemovedPeriods = 32
  private static let articles: Set<String> = ["a", "an", "the"]
  private static let numbers: [String: String] = [
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
  ]

  /// The normalized answer: `"The two dogs, don't bark!"` becomes `"2 dogs don't bark"`.
  package static func normalized(_ answer: String) -> String {
    var text = Array(answer.pythonLower.unicodeScalars).filter { $0 != "," && $0 != "?" }
    text = PythonText.stripped(separatingGenitives(text))
    text = PythonText.stripped(text.map { $0 == "\n" || $0 == "\t" ? " " : $0 })
    return withNumbersAndContractions(withoutPeriods(withoutPunctuation(text)))
  }

  /// The answer as the evaluation server of VQAv2 normalizes it, unless all annotators agree.
  ///
  /// Unlike `normalized`, it keeps commas and question marks, and a comma between digits removes all punctuation.
  ///
  /// Source: `processPunctuation` and `processDigitArticle` in `vqaEval.py` of Antol et al. 2015.
  package static func normalizedByServer(_ answer: String) -> String {
    let text = PythonText.stripped(answer.unicodeScalars.map { $0 == "\n" || $0 == "\t" ? " " : $0 })
    return withNumbersAndContractions(withoutPeriods(withoutPunctuation(text)))
  }

  /// The words in lower case without articles, with digits for numbers, and with the apostrophes of contractions.
  private static func withNumbersAndContractions(_ text: [Unicode.Scalar]) -> String {
    PythonText.words(PythonText.string(text).pythonLower.unicodeScalars).map { numbers[$0] ?? $0 }
      .filter { !articles.contains($0) }.map { Contractions.table[$0] ?? $0 }.joined(separator: " ")
  }

  /// The text with a space inserted before every `'s`.
  private static func separatingGenitives(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    for (index, scalar) in text.enumerated() {
      if scalar == "'", index + 1 < text.count, text[index + 1] == "s" { result.append(" ") }
      result.append(scalar)
    }
    return result
  }

  /// The text without punctuation.
  ///
  /// A mark that is next to a space anywhere in the text is removed everywhere; any other mark becomes a space, unless
  /// the text has a comma between digits.
  private static func withoutPunctuation(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    let hasDigitGroups = text.indices.dropFirst().dropLast().contains {
      text[$0] == "," && isDigit(text[$0 - 1]) && isDigit(text[$0 + 1])
    }
    var besideSpace: Set<Unicode.Scalar> = []
    for (scalar, next) in zip(text, text.dropFirst()) {
      if next == " " { besideSpace.insert(scalar) }
      if scalar == " " { besideSpace.insert(next) }
    }
    return text.compactMap { scalar in
      guard punctuation.contains(scalar) else { return scalar }
      return hasDigitGroups || besideSpace.contains(scalar) ? nil : " "
    }
  }

  /// The text without its first 32 periods; periods before a digit stay and do not count.
  private static func withoutPeriods(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var remaining = maxRemovedPeriods
    var result: [Unicode.Scalar] = []
    for (index, scalar) in text.enumerated() {
      let isBeforeDigit = index + 1 < text.count && isDigit(text[index + 1])
      if scalar == ".", !isBeforeDigit, remaining > 0 { remaining -= 1 } else { result.append(scalar) }
    }
    return result
  }

  private static func isDigit(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.generalCategory == .decimalNumber
  }
}

/// Contractions with a missing apostrophe, and their correct spelling.
///
/// The published table has every form of these words that lacks one of the apostrophes. Its capitalized entries (`Im`)
/// are left out, because normalized words are lower case.
enum Contractions {
  private static let words = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd \
    he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've \
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've \
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll \
    that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've \
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll \
    why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
    """

  static let table: [String: String] = {
    var table: [String: String] = [:]
    for word in words.split(separator: " ") {
      for index in word.indices where word[index] == "'" {
        table[String(word[..<index] + word[word.index(after: index)...])] = String(word)
      }
    }
    // The only entry that removes an apostrophe.
    table["somebody'd"] = "somebodyd"
    return table
  }()
}
