import ArgumentParser
import CommandLineSupport
import Foundation
import Serving

/// Options of the HTTP server.
struct ServerOptions: ParsableArguments {
  @Option(help: "Address to listen on; 0.0.0.0 for all networks.")
  var host = "127.0.0.1"

  @Option(help: "Port to listen on; 0 for any free one.")
  var port = 8080

  @Option(
    name: .customLong("api-key"), help: "Key that clients must send as Authorization: Bearer KEY; repeat for several.")
  var apiKeys: [String] = []

  @Option(name: .customLong("api-key-file"), help: "File with such keys, one on each line.")
  var apiKeyFile: String?

  @Option(help: "Maximum number of requests that wait while all sequences are in use; further ones get the status 429.")
  var queue = 64

  @Option(name: .customLong("media-path"), help: "Folder of images that requests may name as file:// URLs.")
  var mediaPath: String?

  @Flag(name: .customLong("allow-remote-images"), help: "Fetch images that requests name as http or https URLs.")
  var allowsRemoteImages = false

  @Flag(help: "Serve metrics for Prometheus at /metrics.")
  var metrics = false

  @Option(help: "Maximum seconds of a request, and of the arrival of its body.")
  var timeout = 600

  @Option(
    name: .customLong("body-limit"), help: "Maximum size of a request, such as 64MiB. (default: 64MiB)")
  var bodyLimit: ByteCount?

  @Option(
    help: ArgumentHelp(
      "Origin of other sites whose pages may use the server, such as https://example.org, or *; repeat for several.",
      valueName: "origin"))
  var cors: [String] = []

  @Flag(name: [.customShort("v"), .long], help: "Print a line on stderr for each request.")
  var verbose = false

  func validate() throws {
    guard (0...65535).contains(port) else { throw ValidationError("--port must be 0 to 65535, found \(port)") }
    guard (1...100_000).contains(queue) else { throw ValidationError("--queue must be 1 to 100000, found \(queue)") }
    guard (1...86_400).contains(timeout) else {
      throw ValidationError("--timeout must be 1 to 86400 seconds, found \(timeout)")
    }
    guard !apiKeys.contains(where: { $0.trimmingCharacters(in: .whitespaces).isEmpty }) else {
      throw ValidationError("--api-key is empty; give a key, or leave it out")
    }
  }

  /// - Throws: `FileArgumentError` for a file of keys that cannot be read, `MediaPathError` for a missing folder.
  func settings() throws -> ServerSettings {
    var keys = apiKeys
    if let apiKeyFile {
      let lines = try TextFile.read(apiKeyFile).split(whereSeparator: \.isNewline)
      keys += lines.map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
      guard !keys.isEmpty else { throw FileArgumentError("\(apiKeyFile): expected a key on each line, found none") }
    }
    let bodyLimit = bodyLimit?.bytes ?? 64 << 20
    return ServerSettings(
      host: host, port: port, apiKeys: keys, servesMetrics: metrics, timeout: timeout,
      bodyLimit: bodyLimit, origins: cors, isVerbose: verbose,
      images: try ImageAccess(
        mediaPath: mediaPath, allowsRemote: allowsRemoteImages, byteLimit: bodyLimit))
  }
}

/// The settings of the HTTP server.
struct ServerSettings: Sendable {
  var host: String
  var port: Int
  /// Empty to serve everyone.
  var apiKeys: [String]
  var servesMetrics: Bool
  /// Maximum seconds of a request.
  var timeout: Int
  /// Maximum bytes of a request's body.
  var bodyLimit: Int
  /// Origins of other sites whose pages may use the server; `*` for all.
  var origins: [String]
  var isVerbose: Bool
  var images: ImageAccess
}
