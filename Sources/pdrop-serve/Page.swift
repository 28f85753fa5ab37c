import Hummingbird

/// The page at `/`.
enum Page {
  private static let source = String(decoding: PackageResources.page_html, as: UTF8.self)

  /// The page, whose script and style have a nonce of their own for each response.
  static func response() -> Response {
    var generator = SystemRandomNumberGenerator()
    let nonce = (0..<2).map { _ in String(generator.next(), radix: 16) }.joined()
    var response = Response(
      text: source.replacing("{{nonce}}", with: nonce), type: "text/html; charset=utf-8")
    response.headers[.contentSecurityPolicy] =
      "default-src 'none'; script-src 'nonce-\(nonce)'; style-src 'nonce-\(nonce)'; img-src 'self' data: blob:; "
      + "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return response
  }
}
