/// A token that stands for itself wherever its text occurs.
package struct AddedToken: Equatable, Sendable {
  package var id: Int32
  package var content: String

  /// Left out of decoded text on request.
  package var isSpecial: Bool

  /// Also takes the white space in front of it.
  package var stripsLeft: Bool

  /// Also takes the white space behind it.
  package var stripsRight: Bool

  /// Matches only where no letter, digit or underscore touches it.
  package var isSingleWord: Bool

  /// Looked for after the text was prepared rather than before.
  package var isNormalized: Bool

  package init(
    id: Int32, content: String, isSpecial: Bool, stripsLeft: Bool = false, stripsRight: Bool = false,
    isSingleWord: Bool = false, isNormalized: Bool = false
  ) {
    self.id = id
    self.content = content
    self.isSpecial = isSpecial
    self.stripsLeft = stripsLeft
    self.stripsRight = stripsRight
    self.isSingleWord = isSingleWord
    self.isNormalized = isNormalized
  }
}
