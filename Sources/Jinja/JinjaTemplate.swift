import Storage

/// A chat template in the subset of Jinja that chat templates use, rendered as transformers renders it.
///
/// A template is untrusted: it reaches only the variables that it is given, and `JinjaLimits` bounds its cost. What this
/// interpreter does not have is refused by name and line, when the template is parsed if the source shows it.
package struct JinjaTemplate: Sendable {
  let parsed: ParsedTemplate
  let names: ResolvedNames

  package init(_ source: String) throws(JinjaError) {
    parsed = try Parser.parse(source)
    names = try NameResolver.resolve(parsed)
  }

  /// The text of the template for these variables.
  ///
  /// - Parameters:
  ///   - variables: The variables of the conversation, such as `messages`.
  ///   - limits: The limits of this rendering.
  ///   - now: The time that `strftime_now` gives; nil for the current time.
  package func render(
    _ variables: [String: JinjaValue], limits: JinjaLimits = .init(), now: JinjaTime? = nil
  ) throws(JinjaError) -> String {
    let renderer = Renderer(self, variables, limits, now)
    return try renderer.render()
  }
}
