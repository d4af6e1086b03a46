"""A line that is long: whatever comes in on one port goes out to another after a delay, either way.

    python3 delay.py TO DELAY     prints the port it listens on, and runs until it is ended

What waits is not bounded, as a line of that length with bandwidth to spare has it in flight. TCP itself is short on both sides: what is
measured is how the protocol above it bears the round trip.
"""

import asyncio
import sys

BLOCK = 1 << 18


async def carry(reader, writer, delay):
    loop, line = asyncio.get_running_loop(), asyncio.Queue()

    async def arrive():
        while True:
            due, data = await line.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    arriving = asyncio.create_task(arrive())
    try:
        while True:
            data = await reader.read(BLOCK)
            line.put_nowait((loop.time() + delay, data))
            if not data:
                break
        await arriving
    except ConnectionError:
        arriving.cancel()
        writer.close()


async def main(to, delay):
    async def connected(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(carry(reader, back, delay), carry(there, writer, delay), return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
