import Serving
import Synchronization

/// The memory of the bodies and images of requests that are read, wait or are answered.
final class BodyMemory: Sendable {
  /// Reserved bytes, until it is released.
  final class Reservation: Sendable {
    private let memory: BodyMemory
    private let byteCount: Int

    fileprivate init(_ memory: BodyMemory, _ byteCount: Int) { (self.memory, self.byteCount) = (memory, byteCount) }

    deinit { memory.used.subtract(byteCount, ordering: .relaxed) }
  }

  private let limit: Int
  private let used = Atomic(0)

  /// - Parameter limit: Maximum bytes of all bodies.
  init(limit: Int) { self.limit = limit }

  /// Reserves memory, or all that there is if that is less.
  ///
  /// - Throws: `APIError` with status 429 if the bodies of other requests leave too little.
  func reserve(upTo byteCount: Int) throws(APIError) -> Reservation { try reserve(min(byteCount, limit)) }

  /// Reserves memory for a body, or for the images of a request.
  ///
  /// - Throws: `APIError` with status 429 if the bodies of other requests leave too little.
  func reserve(_ byteCount: Int) throws(APIError) -> Reservation {
    guard used.add(byteCount, ordering: .relaxed).newValue <= limit else {
      used.subtract(byteCount, ordering: .relaxed)
      throw APIError(
        429, "other requests take \(limit >> 20) MiB already, the most for all bodies together; try again in 5 s",
        type: "rate_limit_error", code: "too_many_bytes", retryAfter: 5)
    }
    return Reservation(self, byteCount)
  }
}
