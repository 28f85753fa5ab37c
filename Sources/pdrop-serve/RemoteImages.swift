import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import Serving
import Storage
import Synchronization

/// Images on a network, fetched with limits on size, time and redirects, and never from private addresses.
final class RemoteImages: Sendable {
  private static let byteLimit = 32 << 20
  private static let countLimit = 16
  private static let redirectLimit = 3
  /// Seconds for an image, from the name of its host to its last byte.
  private static let timeout = 20
  /// Maximum number of requests whose images are fetched at the same time.
  private static let requestLimit = 4

  private let requestCount = Atomic(0)

  /// The bytes of images by their URLs.
  ///
  /// - Throws: `APIError` for one that cannot be had.
  func fetch(_ urls: [String]) async throws -> [String: [UInt8]] {
    guard urls.count <= Self.countLimit else {
      throw APIError.invalid(
        "\(urls.count) images on a network; expected at most \(Self.countLimit)", parameter: "messages")
    }
    guard !urls.isEmpty else { return [:] }
    defer { requestCount.subtract(1, ordering: .relaxed) }
    guard requestCount.add(1, ordering: .relaxed).newValue <= Self.requestLimit else {
      throw APIError(
        429, "images of \(Self.requestLimit) requests are being fetched; try again in a few seconds",
        type: "rate_limit_error", code: "too_many_fetches", retryAfter: 5)
    }
    var images: [String: [UInt8]] = [:]
    for url in urls { images[url] = try await fetchInTime(url) }
    return images
  }

  private func fetchInTime(_ url: String) async throws -> [UInt8] {
    try await withThrowingTaskGroup(of: [UInt8]?.self) { group in
      group.addTask { try await self.fetch(url) }
      group.addTask {
        try await Task.sleep(for: .seconds(Self.timeout))
        return nil
      }
      defer { group.cancelAll() }
      guard let bytes = try await group.next() ?? nil else {
        throw failure(url, "it takes longer than \(Self.timeout) s")
      }
      return bytes
    }
  }

  private func fetch(_ url: String) async throws -> [UInt8] {
    var url = url
    for _ in 0...Self.redirectLimit {
      switch try await get(url) {
      case .bytes(let bytes): return bytes
      case .redirect(let target): url = target
      }
    }
    throw failure(url, "more than \(Self.redirectLimit) redirects")
  }

  private enum Answer {
    case bytes([UInt8])
    case redirect(String)
  }

  private func get(_ text: String) async throws -> Answer {
    guard let url = URL(string: text), let host = url.host(percentEncoded: false), !host.isEmpty,
      ["http", "https"].contains(url.scheme?.lowercased()), url.user(percentEncoded: false) == nil
    else { throw failure(text, "not an http or https URL") }
    // The connection goes to the address that was checked, whatever the name resolves to later.
    let address = try await publicAddress(of: host, text)
    var configuration = HTTPClient.Configuration(
      redirectConfiguration: .disallow, timeout: .init(connect: .seconds(5), read: .seconds(10)))
    configuration.dnsOverride = [host: address]
    let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    do {
      let answer = try await get(text, url, client)
      try await client.shutdown()
      return answer
    } catch {
      try? await client.shutdown()
      throw error is APIError ? error : failure(text, "\(error)")
    }
  }

  private func get(_ text: String, _ url: URL, _ client: HTTPClient) async throws -> Answer {
    var request = HTTPClientRequest(url: text)
    request.headers.add(name: "Accept", value: "image/*")
    request.headers.add(name: "User-Agent", value: "pdrop-serve")
    let response = try await client.execute(request, timeout: .seconds(Int64(Self.timeout)))
    if (300..<400).contains(response.status.code), let target = response.headers.first(name: "Location") {
      guard let absolute = URL(string: target, relativeTo: url)?.absoluteString else {
        throw failure(text, "a redirect to no URL")
      }
      return .redirect(absolute)
    }
    guard response.status.code == 200 else { throw failure(text, "status \(response.status.code)") }
    do {
      return .bytes(Array(try await response.body.collect(upTo: Self.byteLimit).readableBytesView))
    } catch is NIOTooManyBytesError {
      throw failure(text, "larger than \(Self.byteLimit >> 20) MiB")
    }
  }

  /// An address of a host, of which none is private.
  private func publicAddress(of host: String, _ url: String) async throws -> String {
    let name = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
    // Not on a thread of the tasks, as a name server may take its time.
    let found = try await NIOThreadPool.singleton.runIfActive { NetworkAddress.addresses(of: name) }
    guard let addresses = found, let first = addresses.first else {
      throw failure(url, "the host is not known")
    }
    guard addresses.allSatisfy(\.isPublic) else {
      throw failure(url, "the host is on a private network, from which no images are fetched")
    }
    return first.text
  }

  private func failure(_ url: String, _ reason: String) -> APIError {
    .invalid("the image \(url.excerpt) cannot be fetched: \(reason)", parameter: "messages", code: "image_unreadable")
  }
}
