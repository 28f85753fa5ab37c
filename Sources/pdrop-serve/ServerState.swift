import PDrop
import Serving
import Synchronization

/// What the routes of the server share.
final class ServerState: Sendable {
  /// A loaded model with its engine.
  struct Loaded: Sendable {
    let service: InferenceService
    /// Policy and options where a request has none.
    let base: Request
    let routes: ModelRoutes
  }

  let settings: ServerSettings
  let bodies: BodyMemory
  private let content = Mutex<Loaded?>(nil)

  init(_ settings: ServerSettings) {
    self.settings = settings
    bodies = BodyMemory(limit: 8 * settings.bodyLimit)
  }

  func setLoaded(_ loaded: Loaded) { content.withLock { $0 = loaded } }

  var isLoading: Bool { content.withLock { $0 == nil } }

  /// The model.
  ///
  /// - Throws: `APIError.loading` until it is loaded.
  func loaded() throws(APIError) -> Loaded {
    guard let loaded = content.withLock({ $0 }) else { throw .loading }
    return loaded
  }
}
