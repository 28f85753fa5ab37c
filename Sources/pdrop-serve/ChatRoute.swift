import BatchInference
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import PDrop
import Serving
import Storage

/// `POST /v1/chat/completions`.
struct ChatRoute: Sendable {
  private let state: ServerState
  private let remote: RemoteImages?

  init(_ state: ServerState) {
    self.state = state
    remote = state.settings.images.allowsRemote ? RemoteImages() : nil
  }

  func respond(to request: Request, _ context: ServerContext) async throws -> Response {
    let loaded = try state.loaded()
    var request = request
    let (body, memory) = try await request.json(state, context)
    let pingSeconds = try Self.pingSeconds(body)
    let chat = try ChatRequest(
      body, like: loaded.base, state.settings.images, layerCount: loaded.service.model.layerCount,
      fetched: try await remote?.fetch(ChatRequest.remoteImages(body)) ?? [:])
    let (count, limit) = (chat.request.options.answerCount, loaded.service.options.engine.batchSize)
    guard count <= limit else {
      throw APIError.invalid("n: expected 1 to \(limit) (--batch-size), found \(count)", parameter: "n")
    }
    let imageMemory = try state.bodies.reserve(chat.imageByteCount)
    let ticket: InferenceService.Ticket
    do { ticket = try loaded.service.submit(chat.request) } catch { throw APIError(error) }
    let identity = ChatAnswer.Identity(
      id: "chatcmpl-" + UUID().uuidString.lowercased().replacing("-", with: ""),
      created: Int(Date().timeIntervalSince1970), model: loaded.service.model.name)
    let answer = ChatAnswer(chat, identity, by: loaded.service.model)
    let run = ServedRun(
      ticket, loaded.service, memory: [memory, imageMemory], timeout: state.settings.timeout, context.channel)
    return chat.streams
      ? try await stream(answer, run, request, context, pingSeconds: pingSeconds)
      : await whole(answer, run, request, context)
  }

  /// Seconds between comments while nothing else is sent.
  private static func pingSeconds(_ body: JSONValue) throws(APIError) -> Double {
    let value = body["sse_ping_interval"]
    if value.isNull { return 10 }
    guard let seconds = value.double, seconds > 0 else {
      throw .invalid(
        "sse_ping_interval: expected a number of seconds above 0, found \(value.excerpt)",
        parameter: "sse_ping_interval")
    }
    return min(max(seconds, 0.1), 600)
  }

  // MARK: - Whole answer

  private func whole(
    _ answer: ChatAnswer, _ run: ServedRun, _ request: Request, _ context: ServerContext
  ) async -> Response {
    do {
      let json = try await request.body.consumeWithInboundCloseHandler { _ in
        try await completion(answer, run)
      } onInboundClosed: {
        run.cancel()
      }
      return Response(json: json).closing(context.channel)
    } catch {
      return Response(ErrorMiddleware.apiError(error, request)).closing(context.channel)
    }
  }

  private func completion(_ answer: ChatAnswer, _ run: ServedRun) async throws -> JSONValue {
    var answer = answer
    for await event in run.events {
      if let completion = try answer.completion(for: event) { return completion }
    }
    throw run.interruption
  }

  // MARK: - Stream

  /// The stream of an answer. It begins with the first event of the engine, so that an unusable image gets its status,
  /// or with the first ping.
  private func stream(
    _ answer: ChatAnswer, _ run: ServedRun, _ request: Request, _ context: ServerContext, pingSeconds: Double
  ) async throws -> Response {
    // A client that leaves while it waits is noticed from the first ping on.
    let items = run.items(firstPing: min(1, pingSeconds), pingSeconds: pingSeconds)
    var iterator = items.makeAsyncIterator()
    guard let first = await iterator.next() else { throw run.interruption }
    if case .event(.finished(.failure(let failure), _)) = first { throw answer.error(failure) }
    let body = ResponseBody { writer in
      try await request.body.consumeWithInboundCloseHandler { _ in
        var stream = EventStream(answer)
        try await writer.write(stream.bytes(for: first))
        for await item in items { try await writer.write(stream.bytes(for: item)) }
        if !stream.hasEnded { try await writer.write(stream.end(run.interruption)) }
      } onInboundClosed: {
        run.cancel()
      }
      try await writer.finish(nil)
    }
    var headers: HTTPFields = [.contentType: "text/event-stream; charset=utf-8", .cacheControl: "no-cache"]
    // nginx would otherwise hold the events back.
    if let name = HTTPField.Name("X-Accel-Buffering") { headers[name] = "no" }
    return Response(status: .ok, headers: headers, body: body).closing(context.channel)
  }
}

extension Response {
  /// The response, after which the server sends nothing more on the connection. Watching for a client that leaves uses
  /// up what comes from it.
  consuming func closing(_ channel: any Channel) -> Response {
    var response = self
    let body = response.body
    response.headers[.connection] = "close"
    response.body = ResponseBody(contentLength: body.contentLength) { writer in
      try await body.write(writer)
      channel.close(mode: .output, promise: nil)
    }
    return response
  }
}
