import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import ServiceLifecycle
import Serving
import Storage

/// The context of an HTTP request, with its connection.
struct ServerContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  /// The connection.
  let channel: any Channel

  init(source: ApplicationRequestContextSource) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
  }
}

/// The routes of the server.
struct Routes {
  private let state: ServerState

  init(_ state: ServerState) { self.state = state }

  var router: Router<ServerContext> {
    let router = Router(context: ServerContext.self, options: .autoGenerateHeadEndpoints)
    router.addMiddleware {
      LogMiddleware(isVerbose: state.settings.isVerbose)
      OriginMiddleware(state.settings)
      ErrorMiddleware()
      KeyMiddleware(keys: state.settings.apiKeys)
    }
    router.get("/") { _, _ in Page.response() }
    addStatus(to: router)
    addModel(to: router)
    let chat = ChatRoute(state)
    for path in ["/v1/chat/completions", "/chat/completions"] {
      router.post(RouterPath(path)) { request, context in try await chat.respond(to: request, context) }
    }
    return router
  }

  private func addStatus(to router: Router<ServerContext>) {
    for path in ["/health", "/v1/health"] {
      router.get(RouterPath(path)) { _, _ in
        _ = try state.loaded()
        return Response(json: ["status": "ok"])
      }
    }
    router.get("/metrics") { _, _ in
      guard state.settings.servesMetrics else {
        throw APIError(
          501, "there are no metrics without --metrics", type: "not_supported_error", code: "not_supported")
      }
      return Response(text: try state.loaded().service.prometheusText, type: "text/plain; version=0.0.4; charset=utf-8")
    }
    router.get("/props") { _, _ in Response(json: try state.loaded().routes.properties) }
    router.get("/slots") { request, _ in
      let loaded = try state.loaded()
      if request.uri.queryParameters["fail_on_no_slot"] == "1",
        !loaded.service.slots.contains(where: { $0.request == nil })
      {
        throw APIError(503, "no slot is free", type: "unavailable_error", code: "no_slot", retryAfter: 1)
      }
      return Response(json: loaded.routes.slots)
    }
  }

  private func addModel(to router: Router<ServerContext>) {
    for path in ["/v1/models", "/models"] {
      router.get(RouterPath(path)) { _, _ in Response(json: try state.loaded().routes.models) }
    }
    router.get("/v1/models/{id}") { _, context in
      let id = context.parameters.get("id") ?? ""
      return Response(json: try state.loaded().routes.model(id.removingPercentEncoding ?? id))
    }
    router.post("/tokenize") { request, context in
      let loaded = try state.loaded()
      let body = try await body(of: request, context)
      let memory = try state.bodies.reserve(upTo: try ModelRoutes.tokenizingByteCount(body))
      return Response(json: try loaded.routes.tokenize(body), holding: memory)
    }
    router.post("/detokenize") { request, context in
      let loaded = try state.loaded()
      return Response(json: try loaded.routes.detokenize(try await body(of: request, context)))
    }
    router.post("/apply-template") { request, context in
      let loaded = try state.loaded()
      return Response(json: try loaded.routes.applyTemplate(try await body(of: request, context)))
    }
  }

  private func body(of request: Request, _ context: ServerContext) async throws -> JSONValue {
    var request = request
    return try await request.json(state, context).value
  }
}

extension Request {
  /// The parsed body, which stays in the request, and its memory.
  ///
  /// - Throws: `APIError` for a body that is too large or not JSON.
  mutating func json(
    _ state: ServerState, _ context: ServerContext
  ) async throws -> (value: JSONValue, memory: BodyMemory.Reservation) {
    let limit = state.settings.bodyLimit
    let byteCount = headers[.contentLength].flatMap { Int($0) } ?? limit
    guard byteCount <= limit else { throw APIError.tooLarge(limit: limit) }
    let memory = try state.bodies.reserve(byteCount)
    let buffer = try await collect(state.settings, context.channel)
    guard buffer.readableBytes > 0 else { throw APIError.invalid("the body is empty; expected a JSON object") }
    let value: JSONValue
    do throws(JSONParser.ParseError) {
      value = try JSONParser.parse(Array(buffer.readableBytesView), valueLimit: ChatRequest.valueLimit)
    } catch {
      throw APIError.invalid("the body cannot be read as JSON: expected \(error.expected) at byte \(error.offset)")
    }
    if let key = value.repeatedKey { throw APIError.invalid("the key \(key.excerpt) occurs twice in the body") }
    return (value, memory)
  }

  /// The body. The connection is closed if it does not arrive in time, and if the server stops before it has arrived.
  private mutating func collect(_ settings: ServerSettings, _ channel: any Channel) async throws -> ByteBuffer {
    let limit = settings.bodyLimit
    let timer = Task {
      try await Task.sleep(for: .seconds(settings.timeout))
      channel.close(promise: nil)
    }
    defer { timer.cancel() }
    var request = self
    defer { self = request }
    do {
      return try await withGracefulShutdownHandler {
        try await request.collectBody(upTo: limit)
      } onGracefulShutdown: {
        channel.close(promise: nil)
      }
    } catch is NIOTooManyBytesError {
      throw APIError.tooLarge(limit: limit)
    } catch let error as any HTTPResponseError where error.status == .contentTooLarge {
      throw APIError.tooLarge(limit: limit)
    }
  }
}

extension Response {
  /// A JSON document.
  init(json: JSONValue, status: HTTPResponse.Status = .ok) {
    self.init(text: json.text + "\n", type: "application/json; charset=utf-8", status: status)
  }

  /// A JSON document with the memory that is reserved for it until it is sent.
  init(json: JSONValue, holding memory: BodyMemory.Reservation) {
    self.init(json: json)
    let whole = body
    body = ResponseBody(contentLength: whole.contentLength) { writer in
      try await whole.write(writer)
      withExtendedLifetime(memory) {}
    }
  }

  /// A text that is not to be cached or guessed at.
  init(text: String, type: String, status: HTTPResponse.Status = .ok) {
    self.init(
      status: status,
      headers: [.contentType: type, .cacheControl: "no-store", .xContentTypeOptions: "nosniff"],
      body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
  }

  init(_ error: APIError) {
    self.init(json: error.json, status: HTTPResponse.Status(code: error.status))
    if let seconds = error.retryAfter { headers[.retryAfter] = "\(seconds)" }
    if error.status == 401 { headers[.wwwAuthenticate] = "Bearer" }
  }
}
