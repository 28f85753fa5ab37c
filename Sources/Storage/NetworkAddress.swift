import Foundation

/// An address of the internet protocol.
package struct NetworkAddress: Equatable, Sendable {
  /// 4 bytes, or 16.
  package let bytes: [UInt8]

  /// The addresses of a host; `nil` if its name is not known.
  package static func addresses(of host: String) -> [NetworkAddress]? {
    var hints = unsafe addrinfo()
    #if canImport(Glibc)
      unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    #else
      unsafe hints.ai_socktype = SOCK_STREAM
    #endif
    var list: UnsafeMutablePointer<addrinfo>?
    guard unsafe getaddrinfo(host, nil, &hints, &list) == 0 else { return nil }
    defer { unsafe freeaddrinfo(list) }
    var addresses: [NetworkAddress] = []
    var next = unsafe list
    while let entry = unsafe next {
      if let address = unsafe NetworkAddress(entry.pointee) { addresses.append(address) }
      unsafe next = unsafe entry.pointee.ai_next
    }
    return addresses
  }

  private init?(_ entry: addrinfo) {
    switch unsafe entry.ai_family {
    case AF_INET:
      bytes = unsafe entry.ai_addr.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
        unsafe withUnsafeBytes(of: $0.pointee.sin_addr) { unsafe Array($0) }
      }
    case AF_INET6:
      bytes = unsafe entry.ai_addr.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
        unsafe withUnsafeBytes(of: $0.pointee.sin6_addr) { unsafe Array($0) }
      }
    default: return nil
    }
  }

  package init(bytes: [UInt8]) { self.bytes = bytes }

  /// Whether it is an address of the public internet.
  ///
  /// Source: the IANA registries of special-purpose addresses for IPv4 and IPv6.
  package var isPublic: Bool {
    if bytes.count == 4 { return Self.isPublic(bytes[0], bytes[1], bytes[2]) }
    // IPv4 in IPv6: mapped, compatible, 6to4 and NAT64.
    if bytes[..<10].allSatisfy({ $0 == 0 }) {
      return bytes[10] == 0xFF && bytes[11] == 0xFF && NetworkAddress(bytes: Array(bytes[12...])).isPublic
    }
    if bytes[0] == 0x20, bytes[1] == 0x02 { return NetworkAddress(bytes: Array(bytes[2..<6])).isPublic }
    if bytes[..<4] == [0x00, 0x64, 0xFF, 0x9B] {
      return bytes[4..<12].allSatisfy { $0 == 0 } && NetworkAddress(bytes: Array(bytes[12...])).isPublic
    }
    // Global unicast is 2000::/3, of which 2001::/23, 2001:db8::/32 and 3fff::/20 are special.
    guard bytes[0] & 0xE0 == 0x20 else { return false }
    let isSpecial = bytes[0] == 0x20 && bytes[1] == 0x01 && (bytes[2] < 2 || bytes[2] == 0x0D && bytes[3] == 0xB8)
    return !isSpecial && !(bytes[0] == 0x3F && bytes[1] == 0xFF && bytes[2] < 0x10)
  }

  private static func isPublic(_ a: UInt8, _ b: UInt8, _ c: UInt8) -> Bool {
    switch (a, b, c) {
    case (0, _, _), (10, _, _), (127, _, _), (224..., _, _): false
    case (100, 64...127, _), (169, 254, _), (172, 16...31, _), (192, 168, _), (198, 18...19, _): false
    case (192, 0, 0), (192, 0, 2), (192, 88, 99), (198, 51, 100), (203, 0, 113): false
    default: true
    }
  }

  /// Such as `192.0.2.1` or `2001:db8::1`.
  package var text: String {
    if bytes.count == 4 { return bytes.map(String.init).joined(separator: ".") }
    return stride(from: 0, to: 16, by: 2).map { String(Int(bytes[$0]) << 8 | Int(bytes[$0 + 1]), radix: 16) }
      .joined(separator: ":")
  }
}
