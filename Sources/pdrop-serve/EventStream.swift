import NIOCore
import Serving
import Storage

/// The bytes of a stream of server-sent events.
struct EventStream {
  private var answer: ChatAnswer
  /// Whether the end of the stream has been made.
  private(set) var hasEnded = false

  init(_ answer: ChatAnswer) { self.answer = answer }

  mutating func bytes(for item: ServedRun.Item) -> ByteBuffer {
    switch item {
    case .ping: return ByteBuffer(string: ": ping\n\n")
    case .event(let event):
      do {
        var text = try answer.chunks(for: event).map(Self.line).joined()
        if case .finished = event {
          text += "data: [DONE]\n\n"
          hasEnded = true
        }
        return ByteBuffer(string: text)
      } catch {
        return end(error)
      }
    }
  }

  /// The end of a stream that cannot go on.
  mutating func end(_ error: any Error) -> ByteBuffer {
    hasEnded = true
    guard let error = error as? APIError else { return ByteBuffer() }
    return ByteBuffer(string: Self.line(error.json))
  }

  private static func line(_ json: JSONValue) -> String { "data: \(json.text)\n\n" }
}
