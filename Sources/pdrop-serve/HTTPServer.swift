import CommandLineSupport
import Dispatch
import Foundation
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import PDrop
import ServiceLifecycle
import Storage
import Synchronization

/// The HTTP server, which runs beside the thread that loads the model.
final class HTTPServer: Sendable {
  private struct Progress {
    var isListening = false
    var error: (any Error)?
  }

  private let state: ServerState
  private let progress = Mutex(Progress())
  private let changed = DispatchSemaphore(value: 0)

  init(_ state: ServerState) { self.state = state }

  /// Starts to listen.
  ///
  /// - Throws: `ListenError` for an address that cannot be used.
  func start() throws {
    Task { [self] in
      do {
        try await application().runService()
        // Loading cannot be stopped.
        if state.isLoading { Foundation.exit(ExitStatus.success.rawValue) }
        changed.signal()
      } catch {
        progress.withLock { $0.error = error }
        changed.signal()
      }
    }
    changed.wait()
    let (isListening, error) = progress.withLock { ($0.isListening, $0.error) }
    if !isListening {
      let (host, port) = (state.settings.host, state.settings.port)
      if let error = error as? IOError, error.errnoCode == EADDRINUSE { throw ListenError.inUse(host, port: port) }
      let reason = (error as? IOError).map { SystemError(code: $0.errnoCode).problem } ?? error.map { "\($0)" }
      throw ListenError.unusable(host, port: port, reason: reason ?? "the server has ended")
    }
  }

  /// Waits until the server has ended by SIGTERM or SIGINT, after the requests that it has accepted.
  func wait() throws {
    changed.wait()
    if let error = progress.withLock({ $0.error }) { throw error }
  }

  private func application() -> some ApplicationProtocol {
    var logger = Logger(label: "pdrop-serve")
    logger.logLevel = .error
    let settings = state.settings
    return Application(
      router: Routes(state).router,
      server: .http1(
        configuration: HTTP1Channel.Configuration(
          additionalChannelHandlers: [ContinueHandler(bodyLimit: settings.bodyLimit)],
          idleTimeout: .seconds(60),
          httpDecoderConfiguration: .init(
            maxHeaderFieldSize: 16 << 10, maxHeaderListSize: 32 << 10, maxHeaderFieldCount: 100))),
      configuration: ApplicationConfiguration(
        address: .hostname(settings.host, port: settings.port), serverName: "pdrop-serve", backlog: 1024),
      onServerRunning: { [self] channel in
        Log.write("listening on \(Self.address(channel, settings.host))")
        progress.withLock { $0.isListening = true }
        changed.signal()
      },
      // The cores belong to the engine.
      eventLoopGroupProvider: .shared(MultiThreadedEventLoopGroup(numberOfThreads: 1)),
      logger: logger)
  }

  private static func address(_ channel: any Channel, _ host: String) -> String {
    let name = host.contains(":") ? "[\(host)]" : host
    return "http://\(name):\(channel.localAddress?.port ?? 0)"
  }
}

/// An address that the server cannot listen on.
enum ListenError: UserFacingError {
  case inUse(String, port: Int)
  case unusable(String, port: Int, reason: String)

  var category: ErrorCategory { .resource }
  var problem: String {
    switch self {
    case .inUse(let host, let port): "port \(port) of \(host) is in use; give another --port"
    case .unusable(let host, let port, let reason):
      "cannot listen on port \(port) of \(host.excerpt): \(reason); give another --host or --port"
    }
  }
}
