import CommandLineSupport
import HTTPTypes
import Hummingbird
import NIOHTTP1
import PDrop
import Serving
import Storage

/// Prints a line for each request if that is wanted, with the time until the head of the response.
struct LogMiddleware: RouterMiddleware {
  let isVerbose: Bool

  func handle(
    _ request: Request, context: ServerContext, next: (Request, ServerContext) async throws -> Response
  ) async throws -> Response {
    let start = ContinuousClock.now
    let response = try await next(request, context)
    if isVerbose {
      let milliseconds = Int((ContinuousClock.now - start).milliseconds)
      Log.write("\(request.method.rawValue) \(request.uri.path.excerpt): \(response.status.code), \(milliseconds) ms")
    }
    return response
  }
}

/// Turns every error into one of OpenAI's form.
struct ErrorMiddleware: RouterMiddleware {
  func handle(
    _ request: Request, context: ServerContext, next: (Request, ServerContext) async throws -> Response
  ) async throws -> Response {
    do { return try await next(request, context) } catch {
      let error = Self.apiError(error, request)
      // The rest of the body is not read.
      return error.status == 413 ? Response(error).closing(context.channel) : Response(error)
    }
  }

  static func apiError(_ error: any Error, _ request: Request) -> APIError {
    switch error {
    case let error as APIError: error
    case let error as any HTTPResponseError where error.status == .notFound:
      .notFound("there is no \(request.method.rawValue) \(request.uri.path.excerpt)")
    case let error as any HTTPResponseError:
      APIError(error.status.code, error.status.reasonPhrase, type: "invalid_request_error")
    case let error as HTTPParserError: .invalid("the request is not HTTP/1.1: \(error)")
    case is CancellationError: APIError(499, "the client left", type: "cancelled", code: "cancelled")
    default: APIError(500, "\(type(of: error))", type: "server_error", code: "internal_error")
    }
  }
}

/// Lets only pages of allowed sites use the server, and tells browsers so.
///
/// A server for this machine alone answers only to its own names and those of allowed sites: otherwise a site could make
/// its name point to this machine, and its pages would be of the same origin.
struct OriginMiddleware: RouterMiddleware {
  private let origins: [String]
  private let isLoopback: Bool

  init(_ settings: ServerSettings) {
    origins = settings.origins
    isLoopback = Self.loopbackNames.contains(settings.host)
  }

  private static let loopbackNames = ["localhost", "127.0.0.1", "::1", "[::1]"]

  func handle(
    _ request: Request, context: ServerContext, next: (Request, ServerContext) async throws -> Response
  ) async throws -> Response {
    let host = request.head.authority ?? ""
    guard !isLoopback || host.isEmpty || isOwnName(host) || isListed(host) else {
      return Response(
        APIError(
          403, "the server does not answer to the name \(host.excerpt); start it with --cors http://\(host.prefix(60))",
          type: "permission_error", code: "host"))
    }
    guard let origin = request.headers[.origin] else { return try await next(request, context) }
    let isListed = origins.contains("*") || origins.contains(origin)
    guard isListed || ["http://\(host)", "https://\(host)"].contains(origin) else {
      return Response(
        APIError(
          403, "pages of \(origin.excerpt) may not use this server (--cors)", type: "permission_error", code: "origin"))
    }
    guard isListed else { return try await next(request, context) }
    var response: Response
    if request.method == .options {
      response = Response(status: .noContent)
      response.headers[.accessControlAllowMethods] = "GET, POST, OPTIONS"
      // OpenAI's client sends headers of its own.
      response.headers[.accessControlAllowHeaders] =
        request.headers[.accessControlRequestHeaders] ?? "Authorization, Content-Type"
      response.headers[.accessControlMaxAge] = "600"
    } else {
      response = try await next(request, context)
      response.headers[.accessControlExposeHeaders] = "Retry-After"
    }
    response.headers[.accessControlAllowOrigin] = origins.contains("*") ? "*" : origin
    response.headers[.vary] = "Origin"
    return response
  }

  private func isOwnName(_ host: String) -> Bool {
    let name = host.hasPrefix("[") ? host.prefix { $0 != "]" } + "]" : host.prefix { $0 != ":" }
    return Self.loopbackNames.contains(name.lowercased())
  }

  private func isListed(_ host: String) -> Bool {
    origins.contains("*") || origins.contains("http://\(host)") || origins.contains("https://\(host)")
  }
}

/// Requires a key, but not for the page and for `/health`.
struct KeyMiddleware: RouterMiddleware {
  let keys: [String]

  private static let openPaths: Set<String> = ["/", "/health", "/v1/health"]

  func handle(
    _ request: Request, context: ServerContext, next: (Request, ServerContext) async throws -> Response
  ) async throws -> Response {
    guard keys.isEmpty || Self.openPaths.contains(request.uri.path) || isAuthorized(request) else {
      throw APIError.unauthorized
    }
    return try await next(request, context)
  }

  private func isAuthorized(_ request: Request) -> Bool {
    guard let field = request.headers[.authorization], field.lowercased().hasPrefix("bearer ") else { return false }
    let given = Array(field.dropFirst("bearer ".count).utf8)
    // All keys are compared, so that the time does not tell which one is close.
    return keys.reduce(false) { isEqual(given, Array($1.utf8)) || $0 }
  }

  /// Compares in a time that depends only on the length of the given key.
  private func isEqual(_ given: [UInt8], _ key: [UInt8]) -> Bool {
    var difference = given.count ^ key.count
    for (index, byte) in given.enumerated() { difference |= Int(byte ^ key[index % key.count]) }
    return difference == 0
  }
}
