import Testing

@testable import Storage

@Suite struct NetworkAddressTests {
  private static func bytes(_ text: String) -> [UInt8] {
    if !text.contains(":") { return text.split(separator: ".").compactMap { UInt8($0) } }
    return text.split(separator: ":").flatMap { group in
      let value = UInt16(group, radix: 16) ?? 0
      return [UInt8(value >> 8), UInt8(value & 255)]
    }
  }

  @Test(
    arguments: [
      "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1",
      "172.31.255.255",
      "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1",
      "255.255.255.255", "0:0:0:0:0:0:0:0", "0:0:0:0:0:0:0:1", "0:0:0:0:0:ffff:7f00:1", "0:0:0:0:0:ffff:a00:1",
      "0:0:0:0:0:0:7f00:1", "64:ff9b:0:0:0:0:a00:1", "64:ff9b:1:0:0:0:808:808", "3fff:0:0:0:0:0:0:1",
      "2002:a00:1:0:0:0:0:1", "2001:db8:0:0:0:0:0:1",
      "2001:0:0:0:0:0:0:1",
      "fc00:0:0:0:0:0:0:1", "fe80:0:0:0:0:0:0:1", "ff02:0:0:0:0:0:0:1",
    ])
  func `private and special addresses are not public`(text: String) {
    #expect(!NetworkAddress(bytes: Self.bytes(text)).isPublic)
  }

  @Test(
    arguments: [
      "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.167.0.1", "198.17.0.1",
      "223.255.255.255", "2606:4700:4700:0:0:0:0:1111", "2a00:1450:4001:0:0:0:0:1", "0:0:0:0:0:ffff:808:808",
    ])
  func `other addresses are public`(text: String) {
    let address = NetworkAddress(bytes: Self.bytes(text))
    #expect(address.isPublic && address.text == text)
  }

  @Test func `a host has its addresses`() {
    #expect(NetworkAddress.addresses(of: "127.0.0.1")?.map(\.text) == ["127.0.0.1"])
  }
}
