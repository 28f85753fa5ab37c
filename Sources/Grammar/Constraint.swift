package import Storage

/// The texts that an answer may have.
package enum Constraint: Sendable {
  /// JSON that validates against a schema of the subset that `SchemaReader` describes.
  case jsonSchema(JSONValue)
  /// Any JSON object.
  case jsonObject
  /// One of these texts.
  case choices([String])
  /// A text that matches a regular expression as a whole; see `RegexParser` for the subset.
  case regex(String)
}
