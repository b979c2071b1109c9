global using System.Threading.Tasks.Dataflow;
global using Microsoft.Win32.SafeHandles;
global using VirtioBlkFlow.Virtio;
