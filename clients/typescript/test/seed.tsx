// The component of the predecessor's documentation, as it stands there but for the path of the
// import, which tsconfig.json maps. It has to compile unchanged.

import { useOptimizedTeamChatWebSocket } from '@/hooks/useOptimizedTeamChatWebSocket';

const TeamChatComponent = ({ teamChatId }: { teamChatId: string }) => {
  const {
    isConnected,
    sendMessage,
    startTyping,
    stopTyping,
    updateReadReceipt,
  } = useOptimizedTeamChatWebSocket({
    teamChatId,
    enabled: true,
  });

  const handleSendMessage = (content: string) => {
    sendMessage(content, 'user', {
      timestamp: new Date().toISOString(),
      metadata: { /* additional data */ },
    });
  };

  return (
    <div>
      <div>Connection Status: {isConnected ? 'Connected' : 'Disconnected'}</div>
      {/* Your chat UI components */}
    </div>
  );
};

export default TeamChatComponent;
