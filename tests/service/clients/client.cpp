// client PORT PICTURE: base64 of PICTURE to POST /small-object-detection over a plain socket; prints what comes back
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

static std::string base64(const std::string& in) {
    static const char* letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    unsigned value = 0;
    int bits = -6;
    for (unsigned char c : in) {
        value = (value << 8) + c;
        for (bits += 8; bits >= 0; bits -= 6) out += letters[(value >> bits) & 63];
    }
    if (bits > -6) out += letters[((value << 8) >> (bits + 8)) & 63];
    while (out.size() % 4) out += '=';
    return out;
}

int main(int, char** arguments) {
    std::ifstream file(arguments[2], std::ios::binary);
    const std::string picture((std::istreambuf_iterator<char>(file)), {});
    const std::string body = "{\"image\": \"" + base64(picture) + "\", \"visualize\": false}";
    const std::string request = "POST /small-object-detection HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<unsigned short>(std::stoi(arguments[1])));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    const int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return 1;
    for (size_t sent = 0; sent < request.size();) {
        const ssize_t now = send(connection, request.data() + sent, request.size() - sent, 0);
        if (now <= 0) return 2;
        sent += static_cast<size_t>(now);
    }
    char buffer[4096];
    for (ssize_t got; (got = recv(connection, buffer, sizeof buffer, 0)) > 0;) std::cout.write(buffer, got);
    close(connection);
}
